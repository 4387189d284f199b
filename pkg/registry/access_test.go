package registry_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	distribution "github.com/docker/distribution/configuration"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/registry"
)

// dockerConfig is the file of docker login, with an entry for each key.
func dockerConfig(keys map[string]string) map[string]string {
	var entries []string
	for key, login := range keys {
		entries = append(entries, fmt.Sprintf(`%q: {"auth": %q}`, key, base64.StdEncoding.EncodeToString([]byte(login))))
	}
	return map[string]string{".dockerconfigjson": `{"auths": {` + strings.Join(entries, ",") + `}}`}
}

func TestBasic(t *testing.T) {
	h := newHouse(t, htpasswd(t))
	h.pushImage(t, "vm/disk", "1", random(1000))
	right := user + ":" + canary
	for name, c := range map[string]struct {
		files  map[string]string
		reason string
	}{
		"none":               {nil, "AuthenticationFailed"},
		"username":           {map[string]string{"username": user, "password": canary + "\n"}, ""},
		"accessKeyId":        {map[string]string{"accessKeyId": user, "secretKey": canary}, ""},
		"wrong password":     {map[string]string{"username": user, "password": canary + "x"}, "AuthenticationFailed"},
		"token":              {map[string]string{"token": canary}, "AuthenticationFailed"},
		"docker host":        {dockerConfig(map[string]string{h.host(): right}), ""},
		"docker URL":         {dockerConfig(map[string]string{"http://" + h.host() + "/v1/": right}), ""},
		"docker path":        {dockerConfig(map[string]string{h.host(): "x:y", h.host() + "/vm": right}), ""},
		"docker repository":  {dockerConfig(map[string]string{h.host(): "x:y", h.host() + "/vm": "x:y", h.host() + "/vm/disk": right}), ""},
		"docker other path":  {dockerConfig(map[string]string{h.host() + "/v": right, h.host() + "/vm/dis": right}), "AuthenticationFailed"},
		"docker other host":  {dockerConfig(map[string]string{"registry.example": right, "127.0.0.1": right}), "AuthenticationFailed"},
		"config.json":        {map[string]string{"config.json": dockerConfig(map[string]string{h.host(): right})[".dockerconfigjson"]}, ""},
		"user and password":  {map[string]string{"config.json": fmt.Sprintf(`{"auths": {%q: {"username": %q, "password": %q}}}`, h.host(), user, canary)}, ""},
		"identity token":     {map[string]string{"config.json": fmt.Sprintf(`{"auths": {%q: {"identitytoken": %q}}}`, h.host(), canary)}, "InvalidSecret"},
		"registry token":     {map[string]string{"config.json": fmt.Sprintf(`{"auths": {%q: {"registrytoken": %q}}}`, h.host(), canary)}, "AuthenticationFailed"},
		"an entry of nobody": {map[string]string{"config.json": fmt.Sprintf(`{"auths": {%q: {}}}`, h.host())}, "AuthenticationFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			o, clock := options(t, h.host())
			o.Credentials = secret(t, c.files)
			ref := "docker://" + h.host() + "/vm/disk:1"
			if c.reason != "" {
				failure(t, ref, o, c.reason)
				require.Empty(t, clock.waits, "wrong credentials do not get better")
				return
			}
			image := open(t, ref, o)
			require.Equal(t, random(1000), read(t, image, image.Layers()[0]))
		})
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no JSON":        {".dockerconfigjson": canary},
		"no base64":      {".dockerconfigjson": `{"auths": {"host.example": {"auth": "` + canary + `!"}}}`},
		"no colon":       {".dockerconfigjson": `{"auths": {"host.example": {"auth": "` + base64.StdEncoding.EncodeToString([]byte(canary)) + `"}}}`},
		"helpers":        {".dockerconfigjson": `{"credHelpers": {"host.example": "` + canary + `"}}`},
		"store":          {".dockerconfigjson": `{"credsStore": "` + canary + `"}`},
		"both":           {".dockerconfigjson": `{}`, "username": user, "password": canary},
		"both files":     {".dockerconfigjson": `{}`, "config.json": `{}`},
		"registry token": {"config.json": `{"auths": {"host.example": {"registrytoken": "` + canary + `\u000a"}}}`},
		"too large":      {"config.json": strings.Repeat(" ", 2<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := registry.ReadCredentials(secretDir(t, files))
			requireReason(t, err, "InvalidSecret")
		})
	}
}

func TestToken(t *testing.T) {
	g, auth := newGate(t)
	h := newHouse(t, auth)
	h.pushImage(t, "vm/disk", "1", random(1000))
	ref := "docker://" + h.host() + "/vm/disk:1"
	o, _ := options(t, h.host())
	failure(t, ref, o, "AuthenticationFailed")
	require.Equal(t, 1, g.count())

	o.Credentials = password(t)
	image := open(t, ref, o)
	require.Equal(t, random(1000), read(t, image, image.Layers()[0]))
	asked := g.requests[1].URL.Query()
	require.Equal(t, "repository:vm/disk:pull", asked.Get("scope"), "no more rights than needed")
	require.Equal(t, "house", asked.Get("service"))
	for _, r := range h.asked("") {
		require.NotContains(t, r.Header.Get("Authorization"), "Basic", "the password goes to the token server alone")
	}
}

// TestTokenExpiresInMidBlob breaks the connection in the middle of a blob, and lets the token
// expire with it: the rest comes from that byte on after one login more.
func TestTokenExpiresInMidBlob(t *testing.T) {
	g, auth := newGate(t)
	h := newHouse(t, auth)
	layer := random(5 * mib)
	h.pushImage(t, "disk", "1", layer)
	var expired atomic.Value
	expired.Store("")
	var cut atomic.Bool
	h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		sent := r.Header.Get("Authorization")
		if sent != "" && sent == expired.Load() {
			r.Header.Del("Authorization")
			return false
		}
		first := 0
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
		if !strings.Contains(r.URL.Path, "/blobs/") || sent == "" || first < 2*mib || !cut.CompareAndSwap(false, true) {
			return false
		}
		expired.Store(sent)
		h.app.ServeHTTP(&cutWriter{ResponseWriter: w, left: mib}, r)
		return true
	}
	o, clock := options(t, h.host())
	o.Credentials, o.Connections = password(t), 1
	image := open(t, "docker://"+h.host()+"/disk:1", o)
	b, err := image.Blob(t.Context(), image.Layers()[0])
	require.NoError(t, err)
	before := g.count()
	got, err := readAll(t.Context(), b)
	require.NoError(t, err)
	require.True(t, bytes.Equal(layer, got))
	require.Equal(t, int64(len(layer)), b.Fetched(), "no byte comes twice")
	require.NoError(t, b.Close())
	require.Equal(t, before+1, g.count())
	require.Equal(t, []int{1}, clock.seconds(), "the cut waits, the login does not")
}

// cutWriter ends the connection after some bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) < w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		_ = conn.Close()
	}
	return 0, errors.New("cut")
}

func TestTokenServersThatFail(t *testing.T) {
	g, auth := newGate(t)
	h := newHouse(t, auth)
	h.pushImage(t, "disk", "1", random(1000))
	status := func(code int) func(n int, w http.ResponseWriter, r *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			return true
		}
	}
	text := func(body string) func(n int, w http.ResponseWriter, r *http.Request) bool {
		return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	for name, c := range map[string]struct {
		spoil  func(n int, w http.ResponseWriter, r *http.Request) bool
		reason string
		waits  []int
	}{
		"503 for a while": {func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n < 2 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n < 2
		}, "", []int{1, 2}},
		"429 that asks for 40 s": {func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 0 {
				w.Header().Set("Retry-After", "40")
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return n == 0
		}, "", []int{40}},
		"401":          {status(401), "AuthenticationFailed", []int{}},
		"403":          {status(403), "AuthenticationFailed", []int{}},
		"404":          {status(404), "NotFound", []int{}},
		"no JSON":      {text("<html>"), "AuthenticationFailed", []int{}},
		"no token":     {text("{}"), "AuthenticationFailed", []int{}},
		"odd token":    {text(`{"token": "a\r\nX: y"}`), "AuthenticationFailed", []int{}},
		"access token": {text(`{"access_token": "` + canary + `"}`), "AuthenticationFailed", []int{}},
		"endless": {func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(bytes.Repeat([]byte(" "), 8*mib))
			return true
		}, "AuthenticationFailed", []int{}},
		"leads to file": {func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
			return true
		}, "RedirectRefused", []int{}},
	} {
		t.Run(name, func(t *testing.T) {
			first := g.count()
			g.mu.Lock()
			g.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool { return c.spoil(n-first, w, r) }
			g.mu.Unlock()
			o, clock := options(t, h.host())
			o.Credentials = password(t)
			ref := "docker://" + h.host() + "/disk:1"
			if c.reason == "" {
				open(t, ref, o)
			} else {
				failure(t, ref, o, c.reason)
			}
			require.Equal(t, c.waits, clock.seconds())
		})
	}
}

// TestChallengesThatLead where a secret must not go.
func TestChallengesThatLead(t *testing.T) {
	other := newHouse(t, distribution.Auth{})
	plain, caDir := newTLSHouse(t, distribution.Auth{})
	for name, c := range map[string]struct {
		challenge, reason string
	}{
		"to a file":        {`Bearer realm="file:///etc/passwd"`, "AuthenticationFailed"},
		"nowhere":          {`Bearer realm=""`, "AuthenticationFailed"},
		"without a realm":  {`Bearer`, "AuthenticationFailed"},
		"out of TLS":       {`Bearer realm="` + other.URL + `/token"`, "AuthenticationFailed"},
		"to metadata":      {`Bearer realm="https://169.254.169.254/latest"`, "AddressRefused"},
		"another scheme":   {`Negotiate abc`, "AuthenticationFailed"},
		"without anything": {``, "AuthenticationFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			plain.mu.Lock()
			plain.spoil = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("WWW-Authenticate", c.challenge)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			plain.mu.Unlock()
			o, clock := options(t)
			o.CADir, o.Credentials = caDir, password(t)
			failure(t, "docker://"+plain.host()+"/disk:1", o, c.reason)
			require.Empty(t, clock.waits)
			require.Empty(t, other.asked(""))
		})
	}
}

// TestBlobStoreSeesNoSecret redirects blobs as registries with a store of their own do.
func TestBlobStoreSeesNoSecret(t *testing.T) {
	_, auth := newGate(t)
	for name, auth := range map[string]distribution.Auth{"basic": htpasswd(t), "token": auth} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, auth)
			layer := random(5 * mib)
			h.pushImage(t, "disk", "1", layer)
			var saw []http.Header
			store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.mu.Lock()
				saw = append(saw, r.Header)
				h.mu.Unlock()
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(layer))
			}))
			defer store.Close()
			h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") || r.Header.Get("Authorization") == "" {
					return false
				}
				http.Redirect(w, r, store.URL+"/blob?X-Signature="+canary, http.StatusTemporaryRedirect)
				return true
			}
			o, _ := options(t, h.host())
			o.Credentials = password(t)
			image := open(t, "docker://"+h.host()+"/disk:1", o)
			require.True(t, bytes.Equal(layer, read(t, image, image.Layers()[0])))
			require.NotEmpty(t, saw)
			for _, header := range saw {
				require.Empty(t, header.Get("Authorization"))
			}
		})
	}
}

func TestTLS(t *testing.T) {
	h, caDir := newTLSHouse(t, htpasswd(t))
	h.pushImage(t, "disk", "1", random(1000))
	ref := "docker://" + h.host() + "/disk:1"
	o, _ := options(t)
	o.Credentials = password(t)
	failure(t, ref, o, "CertificateError")
	require.Empty(t, h.asked(""))
	o.CADir = caDir
	image := open(t, ref, o)
	require.Equal(t, random(1000), read(t, image, image.Layers()[0]))

	o.CADir, o.ConfigDir = "", configured(t, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", h.host()))
	image = open(t, ref, o)
	require.Equal(t, random(1000), read(t, image, image.Layers()[0]))
}

// TestPlainRegistryNeedsConfiguration: nothing is sent without TLS unless registries.conf says so.
func TestPlainRegistryNeedsConfiguration(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	o, _ := options(t)
	err := refused(t, "docker://"+h.host()+"/disk:1", o, "CertificateError")
	require.ErrorContains(t, err, "does not speak TLS")
	require.Empty(t, h.asked(""))
}

func TestRegistriesThatFail(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	h.pushImage(t, "disk", "1", random(1000))
	for name, c := range map[string]struct {
		status     int
		retryAfter string
		times      int
		reason     string
		waits      []int
	}{
		"403":                   {403, "", 1 << 20, "AuthenticationFailed", []int{}},
		"404":                   {404, "", 1 << 20, "NotFound", []int{}},
		"429 once":              {429, "7", 1, "", []int{7}},
		"429 that asks for 2 h": {429, "7200", 1 << 20, "TooManyRequests", []int{}},
		"503 twice":             {503, "", 2, "", []int{1, 2}},
		"503 for ever":          {503, "", 1 << 20, "ServerError", []int{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60}},
	} {
		t.Run(name, func(t *testing.T) {
			left := c.times
			h.mu.Lock()
			h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
				if r.TLS != nil || left == 0 {
					return false
				}
				left--
				w.Header().Set("Retry-After", c.retryAfter)
				w.WriteHeader(c.status)
				return true
			}
			h.mu.Unlock()
			o, clock := options(t, h.host())
			ref := "docker://" + h.host() + "/disk:1"
			if c.reason == "" {
				open(t, ref, o)
			} else {
				err := refused(t, ref, o, c.reason)
				if c.retryAfter != "" {
					var patient interface{ RetryAfter() time.Duration }
					require.ErrorAs(t, err, &patient)
					require.Equal(t, 7200.0, patient.RetryAfter().Seconds())
				}
			}
			require.Equal(t, c.waits, clock.seconds())
		})
	}
}

func TestNoSuchImage(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	h.pushImage(t, "disk", "1", random(1000))
	for _, ref := range []string{"/nobody:1", "/disk:2", "/disk@sha256:" + strings.Repeat("0", 64)} {
		o, _ := options(t, h.host())
		failure(t, "docker://"+h.host()+ref, o, "NotFound")
	}
}

// TestCutManifest ends the connection within a manifest, which has no ranges to go on with.
func TestCutManifest(t *testing.T) {
	h := newHouse(t, distribution.Auth{})
	d := h.pushImage(t, "disk", "1", random(1000))
	cuts := 2
	h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if cuts == 0 {
			return false
		}
		cuts--
		h.app.ServeHTTP(&cutWriter{ResponseWriter: w, left: 100}, r)
		return true
	}
	o, _ := options(t, h.host())
	require.Equal(t, d.Digest.String(), open(t, "docker://"+h.host()+"/disk:1", o).Digest())
	require.Zero(t, cuts)
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	host := l.Addr().String()
	require.NoError(t, l.Close())
	o, clock := options(t, host)
	failure(t, "docker://"+host+"/disk:1", o, "ConnectionFailed")
	require.Len(t, clock.waits, 11, "the last endpoint gets every try")
}

// TestProxy reaches a registry that only a proxy knows.
func TestProxy(t *testing.T) {
	h, caDir := newTLSHouse(t, distribution.Auth{})
	h.pushImage(t, "disk", "1", random(1000))
	var tunnels atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "example.com:5000" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		tunnels.Add(1)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = near.Close() }()
		far, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", h.host())
		if err != nil {
			return
		}
		defer func() { _ = far.Close() }()
		go func() { _, _ = io.Copy(far, near) }()
		_, _ = io.Copy(near, far)
	}))
	defer proxy.Close()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	o, _ := options(t)
	o.CADir = caDir
	image := open(t, "docker://example.com:5000/disk:1", o)
	require.Equal(t, random(1000), read(t, image, image.Layers()[0]))
	require.NotZero(t, tunnels.Load())
}
