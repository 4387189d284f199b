package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const result = `{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"}]}`

// environment answers like os.Getenv.
func environment(command string) func(string) string {
	return func(name string) string {
		return map[string]string{"CNI_COMMAND": command, "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=a;K8S_POD_UID=some-uid"}[name]
	}
}

// listen starts an engine that answers status and returns its socket and what it was told.
func listen(t *testing.T, status int) (socket string, told *string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	told = new(string)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			*told = r.Method + " " + r.URL.Path + " " + string(body)
		}
		w.WriteHeader(status)
	}))
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return socket, told
}

func TestAddTellsTheEngineAndPassesTheResultOn(t *testing.T) {
	socket, told := listen(t, http.StatusNoContent)
	var out strings.Builder
	require.NoError(t, run(environment("ADD"), strings.NewReader(`{"socket":"`+socket+`","prevResult":`+result+`}`), &out))
	require.JSONEq(t, result, out.String())
	require.Equal(t, `POST /pods {"address":"10.0.0.5","uid":"some-uid"}`, *told)
}

func TestAddFails(t *testing.T) {
	refusing, _ := listen(t, http.StatusServiceUnavailable)
	for name, input := range map[string]string{
		"the engine refuses":    `{"socket":"` + refusing + `","prevResult":` + result + `}`,
		"the engine is down":    `{"socket":"/nowhere","prevResult":` + result + `}`,
		"there is no address":   `{"socket":"` + refusing + `","prevResult":{"ips":[]}}`,
		"there is no result":    `{"socket":"` + refusing + `"}`,
		"the request is broken": `{`,
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			require.Error(t, run(environment("ADD"), strings.NewReader(input), &out))
			require.Empty(t, out.String())
		})
	}
}

func TestOtherCommands(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(environment("VERSION"), strings.NewReader(""), &out))
	require.JSONEq(t, `{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`, out.String())
	for _, command := range []string{"DEL", "CHECK"} {
		var out strings.Builder
		require.NoError(t, run(environment(command), strings.NewReader("{}"), &out))
		require.Empty(t, out.String())
	}
}
