package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func TestWriteConfig(t *testing.T) {
	c := checkout(t)
	require.NoError(t, c.writeConfig())
	for _, file := range settingsFiles() {
		content, err := os.ReadFile(c.path(file.target))
		require.NoError(t, err)
		require.NotContains(t, string(content), "<no value>")
		require.NotContains(t, string(content), "{{")
		switch filepath.Ext(file.target) {
		case ".yaml":
			documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(content)), 1<<10)
			for {
				var object struct{ APIVersion, Kind string }
				err := documents.Decode(&object)
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err, file.target)
				require.NotEmpty(t, object.Kind, file.target)
			}
		case ".conflist":
			require.True(t, json.Valid(content), file.target)
		}
	}
}

func TestSettingsStayInsideTheFolder(t *testing.T) {
	c := checkout(t)
	require.NoError(t, c.writeConfig())
	for _, p := range c.components() {
		for _, argument := range p.args {
			if _, path, found := strings.Cut(argument, "=/"); found {
				require.True(t, strings.HasPrefix("/"+path, c.cluster+"/"), "%s: %s", p.name, argument)
			}
		}
	}
}

func TestMakeCertificatesOnce(t *testing.T) {
	c := checkout(t)
	require.NoError(t, c.makeCertificates(apiAddress))
	first, err := os.ReadFile(c.kubeconfig())
	require.NoError(t, err)
	require.NoError(t, c.makeCertificates(apiAddress))
	second, err := os.ReadFile(c.kubeconfig())
	require.NoError(t, err)
	require.Equal(t, first, second)
	for _, p := range c.components() {
		for _, argument := range p.args {
			if _, path, found := strings.Cut(argument, "="); found && strings.Contains(path, "/pki/") {
				require.FileExists(t, path)
				info, err := os.Stat(path)
				require.NoError(t, err)
				require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			}
		}
	}
}

func TestFindFolders(t *testing.T) {
	t.Setenv(cacheVariable, "/srv/cache")
	t.Setenv(clusterVariable, "")
	found, err := findFolders(t.Context())
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(found.root, "go.mod"))
	require.Equal(t, "/srv/cache", found.cache)
	require.Equal(t, "/srv/cache/cluster", found.cluster)

	t.Setenv(clusterVariable, "/srv/elsewhere")
	found, err = findFolders(t.Context())
	require.NoError(t, err)
	require.Equal(t, "/srv/elsewhere", found.cluster)

	t.Setenv(clusterVariable, "/srv/"+strings.Repeat("long", 20))
	_, err = findFolders(t.Context())
	require.ErrorContains(t, err, clusterVariable)

	t.Setenv(cacheVariable, "")
	t.Setenv(clusterVariable, "")
	t.Setenv("XDG_CACHE_HOME", "/srv/xdg")
	found, err = findFolders(t.Context())
	require.NoError(t, err)
	require.Equal(t, "/srv/xdg/gild", found.cache)
}

func TestSetPool(t *testing.T) {
	c := checkout(t)
	file := c.path("pools", "small.json")
	require.NoError(t, c.setPool("small", "off"), "nothing to remove is no error")
	require.Error(t, c.setPool("small", "not JSON"))
	require.NoFileExists(t, file)
	require.NoError(t, c.setPool("small", `{"capacityBytes": 1}`))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.JSONEq(t, `{"capacityBytes": 1}`, string(content))
	require.NoError(t, c.setPool("small", "off"))
	require.NoFileExists(t, file)
}

func TestFree(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.False(t, free(listener.Addr().String()))
	require.NoError(t, listener.Close())
	require.True(t, free(listener.Addr().String()))
}

func TestUnrouted(t *testing.T) {
	require.NoError(t, unrouted("240.0.0.0/30"), "a network that no machine has: RFC 1112")
	for _, network := range []string{"127.0.0.0/16", "127.0.0.0/8", "127.0.0.1/32"} {
		require.ErrorContains(t, unrouted(network), "overlaps", network)
	}
	require.Error(t, unrouted("no network"))
}

func TestLastLines(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"fewer":         {"one\n", "one"},
		"more":          {"one\ntwo\nthree\nfour\n", "three\nfour"},
		"nothing":       {"", ""},
		"no final line": {"one\ntwo\nthree", "two\nthree"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, lastLines(test.text, 2)) })
	}
}
