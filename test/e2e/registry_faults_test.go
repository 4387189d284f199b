//go:build e2e

package e2e

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestGoesOnWithABlob cuts the connections of a blob again and again and counts what is read twice.
func TestGoesOnWithABlob(t *testing.T) {
	t.Parallel()
	const cuts, each = 5, 3 * mib / 2
	for name, make := range map[string]func(*fixture) ociImage{
		"container disk": func(f *fixture) ociImage { return f.containerDisk(zstdTar, "disk.qcow2", f.qcow2()) },
		"artifact": func(f *fixture) ociImage {
			return artifact("application/x-qemu-disk", "disk.qcow2", f.qcow2())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := make(f)
			p := f.Push("disk", img)
			layer := img.layers[0]
			p.Faults(registryFault{On: onBlob, Digest: digestOf(layer.content), CutAfter: each, Times: cuts})
			f.RegistryImage("image", p.URL(tlsPort))
			c := f.Claim("disk", "image", block)
			f.RequireBound(c)
			f.RequireDisk(c, f.Disk(diskSize))
			f.RequireNothingLeft(c)
			short := 0
			for _, request := range p.Requests() {
				if request.Kind == onBlob && request.Bytes == each {
					short++
				}
			}
			require.Equal(t, cuts, short, "the connection was cut")
			require.LessOrEqual(t, blobBytes(p.Requests()), int64(len(layer.content)+len(img.config.content))+cuts*bytesAgain)
			require.EqualValues(t, 1, f.Import(c).Status.Attempts)
		})
	}
}

// TestLogsInAgain lets its tokens end in the middle of a blob.
func TestLogsInAgain(t *testing.T) {
	t.Parallel()
	f := start(t)
	p := f.Push("disk", f.containerDisk(plainTar, "disk.img", f.raw()))
	p.Faults(
		registryFault{TokenSeconds: 2},
		// The blob takes ten seconds, and no request for more than a part of it lasts that long.
		registryFault{On: onBlob, BytesPerSecond: diskSize / 10, CutAfter: 2 * mib},
	)
	user, password := f.RegistryUser()
	f.Secret("login", map[string]string{"username": user, "password": password})
	f.RegistryImage("image", p.URL(tokenPort), withSecret)
	c := f.Claim("disk", "image", block)
	f.RequireBound(c)
	f.RequireDisk(c, f.Disk(diskSize))
	f.RequireNothingLeft(c)
	var begun bool
	refused, tokens := 0, 0
	for _, request := range p.Requests() {
		switch {
		case request.Kind == onBlob && request.Status/100 == 2:
			begun = true
		case request.Kind == onBlob && request.Status == 401 && begun:
			refused++
		case request.Kind == onToken:
			tokens++
		}
	}
	require.NotZero(t, refused, "no token ended in the middle of the blob")
	require.Greater(t, tokens, 1)
	require.EqualValues(t, 1, f.Import(c).Status.Attempts)
}

// TestWaitsForABusyRegistry pulls from a registry that says for a while that it is busy.
func TestWaitsForABusyRegistry(t *testing.T) {
	t.Parallel()
	const pause = 3 * time.Second
	for name, test := range map[string]struct {
		fault registryFault
		port  int
	}{
		"429 of a manifest": {registryFault{On: onManifest, Status: 429, Times: 2, RetryAfter: "3"}, tlsPort},
		"429 of a blob":     {registryFault{On: onBlob, Status: 429, Times: 2, RetryAfter: "3"}, tlsPort},
		"429 of a token":    {registryFault{On: onToken, Status: 429, Times: 1, RetryAfter: "3"}, tokenPort},
		"500 of a manifest": {registryFault{On: onManifest, Status: 500, Times: 3}, tlsPort},
		"503 of a blob":     {registryFault{On: onBlob, Status: 503, Times: 3}, tlsPort},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			p := f.PushTo("library/"+f.namespace, "1", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
			p.Faults(test.fault)
			f.RegistryImage("image", p.URL(test.port))
			c := f.Claim("disk", "image", block)
			f.RequireBound(c)
			f.RequireDisk(c, f.Disk(diskSize))
			f.RequireNothingLeft(c)
			requests := p.Requests()
			seen := 0
			for i, request := range requests {
				if request.Status == test.fault.Status {
					seen++
				}
				if request.Status == 429 && i+1 < len(requests) && requests[i+1].Kind == request.Kind && requests[i+1].Status != 429 {
					require.GreaterOrEqual(t, requests[i+1].Time.Sub(request.Time), pause, "earlier than the registry asked for")
				}
			}
			require.Equal(t, test.fault.Times, seen, "the registry was not as busy as it should have been")
		})
	}
}

// TestNeverMixesTwoTags moves a tag to another image while the first one's blob is read. The claim holds the first.
func TestNeverMixesTwoTags(t *testing.T) {
	t.Parallel()
	f := start(t)
	old, replaced := f.Disk(diskSize), f.Disk(diskSize)
	replaced.Seed++
	img := f.containerDisk(gzipTar, "disk.qcow2", f.convert(old, "qcow2"))
	p := f.Push("disk", img)
	p.Faults(registryFault{On: onBlob, Digest: digestOf(img.layers[0].content), HoldAfter: int64(len(img.layers[0].content)) / 2})
	f.RegistryImage("image", p.URL(tlsPort))
	c := f.Claim("disk", "image", block)
	p.WaitServed(int64(len(img.layers[0].content)) / 2)
	moved := f.Push("disk", f.containerDisk(gzipTar, "disk.qcow2", f.convert(replaced, "qcow2")))
	require.NotEqual(t, p.digest, moved.digest)
	p.Faults()
	imp := f.RequireBound(c)
	require.Equal(t, p.digest, imp.Status.Result.Digest)
	f.RequireDisk(c, old)
	f.RequireNothingLeft(c)

	again := f.Claim("again", "image", block)
	imp = f.RequireBound(again)
	require.Equal(t, moved.digest, imp.Status.Result.Digest)
	f.RequireDisk(again, replaced)
	f.RequireNothingLeft(again)
}

// TestKilledPullGoesOn kills the importer in the middle of a blob. The next attempt ends the import.
func TestKilledPullGoesOn(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.containerDisk(plainTar, "disk.img", f.raw())
	p := f.Push("disk", img)
	half := int64(len(img.layers[0].content)) / 2
	p.Faults(registryFault{On: onBlob, Digest: digestOf(img.layers[0].content), HoldAfter: half})
	f.RegistryImage("image", p.ByDigest(tlsPort))
	c := f.Claim("disk", "image", block)
	p.WaitServed(half)
	pod := f.ImporterPod(c)
	require.NoError(t, f.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
	f.WaitEvent(c, "ImportRetry", "")
	p.Faults()
	f.RequireBound(c)
	f.RequireDisk(c, f.Disk(diskSize))
	f.RequireNothingLeft(c)
	require.EqualValues(t, 2, f.Import(c).Status.Attempts)
}

// TestPullSecretsStayHome proves that the credentials of a registry cannot be read anywhere while it is pulled from.
func TestPullSecretsStayHome(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.containerDisk(plainTar, "disk.img", f.raw())
	p := f.Push("disk", img)
	p.Faults(registryFault{On: onBlob, HoldAfter: int64(len(img.layers[0].content)) / 2})
	user, password := f.RegistryUser()
	f.PullSecret("login", p.host+":5004", user, password)
	f.RegistryImage("image", p.URL(tokenPort), withSecret)
	c := f.Claim("disk", "image")
	p.WaitServed(int64(len(img.layers[0].content)) / 2)
	pod := f.ImporterPod(c)
	p.Faults()
	f.RequireBound(c)
	f.RequireDisk(c, f.Disk(diskSize))
	f.RequireNothingLeft(c)
	f.RequireRecordedLog(pod.Name)
	secrets := []string{password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	for _, request := range p.Requests() {
		if token, shown := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer "); shown {
			secrets = append(secrets, token)
		}
	}
	require.Greater(t, len(secrets), 2, "no token was shown")
	for _, secret := range secrets {
		names, err := f.recorded(secret)
		require.NoError(t, err)
		require.Empty(t, names, "a secret can be read in the records")
	}
}
