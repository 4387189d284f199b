package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	got, err := parse(strings.NewReader(`# a comment
FROM scratch

ADD rootfs.tar /
COPY tool /usr/bin/tool
USER 107:107
ENV A=b
ENV C=d=e
ENTRYPOINT ["/usr/bin/tool", "run"]
CMD ["-h"]
`))
	require.NoError(t, err)
	require.Equal(t, recipe{
		layers: []layer{
			{instruction: "ADD rootfs.tar /", unpack: true, source: "rootfs.tar", target: "/"},
			{instruction: "COPY tool /usr/bin/tool", source: "tool", target: "/usr/bin/tool"},
		},
		user:       "107:107",
		env:        []string{"A=b", "C=d=e"},
		entrypoint: []string{"/usr/bin/tool", "run"},
		cmd:        []string{"-h"},
	}, got)
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":             "",
		"no FROM":             "COPY a /a",
		"another base":        "FROM debian\nCOPY a /a",
		"a second stage":      "FROM scratch\nCOPY a /a\nFROM scratch",
		"no layer":            "FROM scratch\nUSER 1",
		"RUN":                 "FROM scratch\nCOPY a /a\nRUN true",
		"lower case":          "FROM scratch\ncopy a /a",
		"LABEL":               "FROM scratch\nCOPY a /a\nLABEL a=b",
		"shell CMD":           "FROM scratch\nCOPY a /a\nCMD a",
		"COPY options":        "FROM scratch\nCOPY --chmod=755 /a",
		"COPY of two files":   "FROM scratch\nCOPY a b /c",
		"COPY to a folder":    "FROM scratch\nCOPY a /c/",
		"COPY relative":       "FROM scratch\nCOPY a c",
		"COPY pattern":        "FROM scratch\nCOPY a* /c",
		"COPY list":           "FROM scratch\nCOPY [\"a\",\"/c\"]",
		"ADD from the net":    "FROM scratch\nADD http://h/a.tar /a",
		"ADD of a plain file": "FROM scratch\nADD a /",
		"ADD below the root":  "FROM scratch\nADD a.tar /usr",
		"a variable":          "FROM scratch\nCOPY a /a\nENV A=$B",
		"a continued line":    "FROM scratch\nCOPY a /a\nENV A=b \\\n C=d",
		"two ENV in one":      "FROM scratch\nCOPY a /a\nENV A=b C=d",
		"old ENV":             "FROM scratch\nCOPY a /a\nENV A b",
		"shell ENTRYPOINT":    "FROM scratch\nCOPY a /a\nENTRYPOINT /a",
		"empty ENTRYPOINT":    "FROM scratch\nCOPY a /a\nENTRYPOINT []",
		"no USER":             "FROM scratch\nCOPY a /a\nUSER",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(strings.NewReader(text))
			require.Error(t, err)
		})
	}
}

// The Dockerfiles of this project must stay inside the subset and must not run as root.
func TestOurDockerfiles(t *testing.T) {
	for _, folder := range []string{"../controller", "../importer", "../../test/imageserver"} {
		f, err := os.Open(folder + "/Dockerfile")
		require.NoError(t, err)
		defer f.Close()
		r, err := parse(f)
		require.NoError(t, err)
		require.Regexp(t, `^[1-9][0-9]*:[1-9][0-9]*$`, r.user, "a user by number, so that runAsNonRoot can be checked")
		require.NotEmpty(t, r.entrypoint)
	}
}
