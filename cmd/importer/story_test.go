package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/importer"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"importer": main, "importer-often": often})
}

// TestStories runs the importer as people do. Each story is one file in testdata.
func TestStories(t *testing.T) {
	images := makeImages(t)
	folder := t.TempDir()
	for name, image := range images {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), image, 0o400))
	}
	shelf := newShelf(t, images)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			s := newSite(t, images)
			env.Values[siteKey{}] = s
			for name, value := range map[string]string{
				"URL": s.URL, "SECURE": s.secure.URL, "HOST": s.Listener.Addr().String(), "SIG": canary,
				"ETAG": `\"` + sum(images["disk.raw"])[:16] + `\"`,
				"SHA":  "sha256:" + sum(images["disk.raw"]), "ISO_SHA": "sha256:" + sum(images["disk.iso"]),
				"ZLIB_SHA": "sha256:" + sum(images["zlib.qcow2"]), "GZ_SHA": "sha256:" + sum(images["disk.raw.gz"]), "VHDX_SHA": "sha256:" + sum(images["disk.vhdx"]),
				"REGISTRY": shelf.host, "HTTP_PROXY": "", "HTTPS_PROXY": "", "http_proxy": "", "https_proxy": "",
			} {
				env.Setenv(name, value)
			}
			for link, to := range map[string]string{"images": folder, "shelf": shelf.dir} {
				if err := os.Symlink(to, filepath.Join(env.WorkDir, link)); err != nil {
					return err
				}
			}
			return writeFiles(env.WorkDir, s)
		},
		Condition: func(condition string) (bool, error) {
			switch condition {
			case "root":
				return os.Geteuid() == 0, nil
			case "qemu":
				return haveQemu(), nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails": fails, "disk": isDisk, "nosecrets": noSecrets, "asked": asked, "tmpfs": mountTmpfs, "loop": makeLoop, "within": within, "served": served, "terminate": terminate, "waitfor": waitFor, "gone": gone, "nothing": nothing,
		},
	})
}

type siteKey struct{}

func siteOf(ts *testscript.TestScript) *site { return ts.Value(siteKey{}).(*site) }

// writeFiles puts the secrets where the stories find them.
func writeFiles(dir string, s *site) error {
	files := map[string][]byte{
		"ca/ca.crt":       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.secure.Certificate().Raw}),
		"basic/username":  []byte("user\n"),
		"basic/password":  []byte("pw-" + canary + "\n"),
		"token/token":     []byte("token-" + canary),
		"token/headers/a": []byte("X-Auth-Token: " + canary + "\n"),
		"wrong/token":     []byte("wrong-" + canary),
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	if err := serveFiles(dir, s); err != nil {
		return err
	}
	for _, name := range []string{"volume", "scratch"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// fails CODE REASON ARGS... runs the importer and wants this exit code and this reason.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE REASON ARGS...")
	}
	log := ts.MkAbs("termination.log")
	err := ts.Exec("importer", append(args[2:], "--termination-log="+log)...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("importer ended with %v, want exit code %s", err, args[0])
	}
	result, err := importer.ParseResult([]byte(ts.ReadFile("termination.log")))
	ts.Check(err)
	if string(result.Reason) != args[1] {
		ts.Fatalf("reason %s (%s), want %s", result.Reason, result.Message, args[1])
	}
	if result.Reason.ExitCode() != exit.ExitCode() {
		ts.Fatalf("reason %s has exit code %d, the importer ended with %d", result.Reason, result.Reason.ExitCode(), exit.ExitCode())
	}
}

// disk PATH IMAGE [SIZE] wants PATH to hold exactly the bytes of IMAGE, zeros behind it, and SIZE bytes.
func isDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: disk PATH IMAGE [SIZE]")
	}
	got, want := ts.ReadFile(args[0]), string(siteOf(ts).images[args[1]])
	size := (len(want) + 511) / 512 * 512
	if len(args) == 3 {
		var err error
		size, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	if len(got) != size {
		ts.Fatalf("%s has %d bytes, want %d", args[0], len(got), size)
	}
	if !strings.HasPrefix(got, want) || strings.Trim(got[len(want):], "\x00") != "" {
		ts.Fatalf("%s is not %s", args[0], args[1])
	}
	if info, err := os.Stat(ts.MkAbs(args[0])); err != nil || info.Mode().Perm() != 0o660 && info.Mode().IsRegular() {
		ts.Fatalf("%s has the mode %v, want 0660 (%v)", args[0], info.Mode(), err)
	}
}

// nosecrets wants no secret in what was printed, in the termination log, and at the other host.
func noSecrets(ts *testscript.TestScript, _ bool, _ []string) {
	texts := []string{ts.ReadFile("stdout"), ts.ReadFile("stderr")}
	if _, err := os.Stat(ts.MkAbs("termination.log")); err == nil {
		texts = append(texts, ts.ReadFile("termination.log"))
	}
	for _, text := range texts {
		if strings.Contains(text, canary) || strings.Contains(text, "sig=") {
			ts.Fatalf("a secret is told: %s", text)
		}
	}
	s := siteOf(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.leaked) > 0 {
		ts.Fatalf("a secret went to another host: %v", s.leaked)
	}
}

// asked PATH N wants N requests for PATH.
func asked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: asked PATH N")
	}
	if n := siteOf(ts).count(args[0]); strconv.Itoa(n) != args[1] {
		ts.Fatalf("%d requests for %s, want %s", n, args[0], args[1])
	}
}

// tmpfs DIR SIZE mounts a small file system.
func mountTmpfs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tmpfs DIR SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("gild-test", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { ts.Check(unix.Unmount(dir, 0)) })
}

// loop NAME FILE [ARGS] makes a block device over FILE full of 0xff and sets NAME to its path.
func makeLoop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: loop NAME FILE [ARGS]")
	}
	out, err := exec.Command("losetup", append([]string{"-f", "--show", ts.MkAbs(args[1])}, args[2:]...)...).Output()
	ts.Check(err)
	device := strings.TrimSpace(string(out))
	ts.Defer(func() { ts.Check(exec.Command("losetup", "-d", device).Run()) })
	ts.Setenv(args[0], device)
}

// within PATH IMAGE wants the device PATH to begin with IMAGE and to be zero behind it, read
// past the page cache.
func within(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: within PATH IMAGE")
	}
	got, err := exec.Command("dd", "if="+args[0], "bs=1M", "iflag=direct", "status=none").Output()
	ts.Check(err)
	want := string(siteOf(ts).images[args[1]])
	if !strings.HasPrefix(string(got), want) {
		ts.Fatalf("%s does not begin with %s", args[0], args[1])
	}
	if strings.Trim(string(got[len(want):]), "\x00") != "" {
		ts.Fatalf("old bytes survive on %s", args[0])
	}
}

// eventually waits until what another process does has happened.
func eventually(ts *testscript.TestScript, what string, happened func() bool) {
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("in vain: %s", what)
		}
	}
}

// served PATH waits until PATH was asked for.
func served(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: served PATH")
	}
	eventually(ts, "somebody asks for "+args[0], func() bool { return siteOf(ts).count(args[0]) > 0 })
}

// waitfor FILE waits until FILE is there.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor FILE")
	}
	eventually(ts, args[0]+" is there", func() bool { _, err := os.Stat(ts.MkAbs(args[0])); return err == nil })
}

// gone FILE waits until the process whose number is in FILE has ended.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone FILE")
	}
	process := filepath.Join("/proc", strings.TrimSpace(ts.ReadFile(args[0])), "stat")
	eventually(ts, process+" is gone", func() bool {
		stat, err := os.ReadFile(process)
		// A zombie writes nothing any more.
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// terminate sends SIGTERM to what runs in the background, as the kubelet does.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	for _, command := range ts.BackgroundCmds() {
		ts.Check(command.Process.Signal(unix.SIGTERM))
	}
}

// nothing DIR wants an empty directory.
func nothing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: nothing DIR")
	}
	left, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(left) > 0 {
		ts.Fatalf("left behind in %s: %v", args[0], left)
	}
}
