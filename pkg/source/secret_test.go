package source_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

func TestCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string][]byte
		want  map[string]string
	}{
		"basic":            {map[string][]byte{"username": []byte("user\n"), "password": []byte("pass:word\r\n")}, map[string]string{"Authorization": "Basic dXNlcjpwYXNzOndvcmQ="}},
		"KubeVirt's names": {map[string][]byte{"accessKeyId": []byte("user"), "secretKey": []byte("pass:word")}, map[string]string{"Authorization": "Basic dXNlcjpwYXNzOndvcmQ="}},
		"token":            {map[string][]byte{"token": []byte("abc\n")}, map[string]string{"Authorization": "Bearer abc"}},
		"headers":          {map[string][]byte{"headers/extra-0": []byte("X-A: 1\n\nx-b:2\r\n"), "headers/secret/more": []byte("X-C: a: b ")}, map[string]string{"X-A": "1", "X-B": "2", "X-C": "a: b"}},
		"token, headers":   {map[string][]byte{"token": []byte("abc"), "headers/a": []byte("X-A: 1")}, map[string]string{"Authorization": "Bearer abc", "X-A": "1"}},
		"own scheme":       {map[string][]byte{"headers/a": []byte("Authorization: Custom abc")}, map[string]string{"Authorization": "Custom abc"}},
		"unknown files":    {map[string][]byte{"tls.crt": []byte("x")}, map[string]string{"Authorization": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			credentials, err := source.ReadCredentials(mounted(t, c.files))
			require.NoError(t, err)
			s := newSite(t, []byte("x"))
			o := options(newClock())
			o.Credentials = credentials
			open(t, s.url(), o)
			for key, value := range c.want {
				require.Equal(t, value, s.requests[0].Header.Get(key))
			}
		})
	}
}

func TestCredentialsThatCannotBeSent(t *testing.T) {
	for name, files := range map[string]map[string][]byte{
		"no password":         {"username": []byte("canary")},
		"no user":             {"password": []byte("canary")},
		"no secret key":       {"accessKeyId": []byte("canary")},
		"colon in user":       {"username": []byte("can:ary"), "password": []byte("x")},
		"two ways":            {"username": []byte("canary"), "password": []byte("x"), "token": []byte("canary")},
		"header and token":    {"headers/a": []byte("authorization: canary"), "token": []byte("canary")},
		"empty token":         {"token": []byte("\n")},
		"line break in token": {"token": []byte("canary\nX: y")},
		"no colon":            {"headers/a": []byte("canary")},
		"space in name":       {"headers/a": []byte("X canary: y")},
		"no name":             {"headers/a": []byte(": canary")},
		"control in value":    {"headers/a": []byte("X: can\x00ary")},
		"range":               {"headers/a": []byte("range: canary")},
		"encoding":            {"headers/a": []byte("Accept-Encoding: canary")},
		"host":                {"headers/a": []byte("Host: canary")},
		"if-range":            {"headers/a": []byte("If-Range: canary")},
		"too large":           {"token": make([]byte, 1<<20+1)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := source.ReadCredentials(mounted(t, files))
			var e *source.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, source.InvalidSecret, e.Reason())
			require.NotContains(t, err.Error(), canary)
		})
	}
	_, err := source.ReadCredentials(t.TempDir() + "/none")
	require.Error(t, err)
}
