package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// taken is the time of every snapshot here.
var taken = time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)

// newController has an empty store and an empty folder of pools.
func newController(t *testing.T) *controller {
	t.Helper()
	volumes, err := openStore(t.TempDir())
	require.NoError(t, err)
	snapshots, err := openStore(t.TempDir())
	require.NoError(t, err)
	return &controller{volumes: volumes, snapshots: snapshots, pools: pools{folder: t.TempDir()}, now: func() time.Time { return taken }}
}

// setPool writes the settings of a pool.
func setPool(t *testing.T, c *controller, name, settings string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(c.pools.folder, name+".json"), []byte(settings), 0o600))
}

func mount() []*csi.VolumeCapability {
	return []*csi.VolumeCapability{{AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}}}
}

func block() []*csi.VolumeCapability {
	return []*csi.VolumeCapability{{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}}}
}

func request(name string, bytes int64, parameters map[string]string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: mount(), Parameters: parameters,
		CapacityRange: &csi.CapacityRange{RequiredBytes: bytes}}
}

func TestCreateVolume(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*csi.CreateVolumeRequest)
		size int64
		code codes.Code
	}{
		"as asked for":         {func(*csi.CreateVolumeRequest) {}, 10 * mebibyte, codes.OK},
		"rounded up":           {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes++ }, 11 * mebibyte, codes.OK},
		"no size":              {func(r *csi.CreateVolumeRequest) { r.CapacityRange = nil }, defaultSize, codes.OK},
		"a block device":       {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = block() }, 10 * mebibyte, codes.OK},
		"no name":              {func(r *csi.CreateVolumeRequest) { r.Name = "" }, 0, codes.InvalidArgument},
		"no capabilities":      {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil }, 0, codes.InvalidArgument},
		"block and filesystem": {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = append(block(), mount()...) }, 0, codes.InvalidArgument},
		"an empty source":      {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} }, 0, codes.InvalidArgument},
		"over its limit": {func(r *csi.CreateVolumeRequest) {
			r.CapacityRange.RequiredBytes++
			r.CapacityRange.LimitBytes = r.CapacityRange.RequiredBytes
		}, 0, codes.OutOfRange},
		"absurd":           {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = maxSize + 1 }, 0, codes.OutOfRange},
		"a wrong limit":    {func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{capacityParameter: "1Gi"} }, 0, codes.InvalidArgument},
		"a wrong delay":    {func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{delayParameter: "10"} }, 0, codes.InvalidArgument},
		"a path as a pool": {func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{poolParameter: "../x"} }, 0, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			c := newController(t)
			r := request("a", 10*mebibyte, nil)
			test.edit(r)
			reply, err := c.CreateVolume(t.Context(), r)
			require.Equal(t, test.code, status.Code(err), err)
			if test.code != codes.OK {
				return
			}
			require.Equal(t, test.size, reply.GetVolume().GetCapacityBytes())
			info, err := os.Stat(c.volumes.image(reply.GetVolume().GetVolumeId()))
			require.NoError(t, err)
			require.Equal(t, test.size, info.Size())
		})
	}
}

func TestCreateVolumeAgain(t *testing.T) {
	c := newController(t)
	first, err := c.CreateVolume(t.Context(), request("a", 10*mebibyte, nil))
	require.NoError(t, err)
	again, err := c.CreateVolume(t.Context(), request("a", 10*mebibyte, nil))
	require.NoError(t, err)
	require.Equal(t, first.GetVolume().GetVolumeId(), again.GetVolume().GetVolumeId())

	_, err = c.CreateVolume(t.Context(), request("a", 20*mebibyte, nil))
	require.Equal(t, codes.AlreadyExists, status.Code(err))
	other := request("a", 10*mebibyte, nil)
	other.VolumeCapabilities = block()
	_, err = c.CreateVolume(t.Context(), other)
	require.Equal(t, codes.AlreadyExists, status.Code(err))
}

func TestCapacity(t *testing.T) {
	c := newController(t)
	parameters := map[string]string{poolParameter: "small", capacityParameter: "31457280"}
	first, err := c.CreateVolume(t.Context(), request("a", 20*mebibyte, parameters))
	require.NoError(t, err)
	_, err = c.CreateVolume(t.Context(), request("b", 20*mebibyte, parameters))
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.ErrorContains(t, err, `pool "small" has 10485760 of 31457280 bytes left, the volume needs 20971520`)
	_, err = c.CreateVolume(t.Context(), request("a", 20*mebibyte, parameters))
	require.NoError(t, err, "an existing volume needs no room")
	_, err = c.CreateVolume(t.Context(), request("other", 20*mebibyte, map[string]string{poolParameter: "other", capacityParameter: "31457280"}))
	require.NoError(t, err, "pools do not share")

	setPool(t, c, "small", `{"capacityBytes": 41943040}`)
	_, err = c.CreateVolume(t.Context(), request("b", 20*mebibyte, parameters))
	require.NoError(t, err, "the file of the pool goes before the parameters")
	_, err = c.CreateVolume(t.Context(), request("c", 20*mebibyte, parameters))
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	_, err = c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: first.GetVolume().GetVolumeId()})
	require.NoError(t, err)
	_, err = c.CreateVolume(t.Context(), request("c", 20*mebibyte, parameters))
	require.NoError(t, err, "a deleted volume makes room")
}

func TestFaults(t *testing.T) {
	c := newController(t)
	parameters := map[string]string{poolParameter: "faulty"}
	t.Run("refused until told otherwise", func(t *testing.T) {
		setPool(t, c, "faulty", `{"refuse": "the array is being serviced"}`)
		_, err := c.CreateVolume(t.Context(), request("refused", mebibyte, parameters))
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.ErrorContains(t, err, "the array is being serviced")
		setPool(t, c, "faulty", `{}`)
		_, err = c.CreateVolume(t.Context(), request("refused", mebibyte, parameters))
		require.NoError(t, err)
	})
	t.Run("smaller than it says", func(t *testing.T) {
		setPool(t, c, "faulty", `{"realBytes": 2097152}`)
		reply, err := c.CreateVolume(t.Context(), request("tiny", 100*mebibyte, parameters))
		require.NoError(t, err)
		require.Equal(t, int64(100*mebibyte), reply.GetVolume().GetCapacityBytes())
		info, err := os.Stat(c.volumes.image(reply.GetVolume().GetVolumeId()))
		require.NoError(t, err)
		require.Equal(t, int64(2*mebibyte), info.Size())
	})
	t.Run("slow", func(t *testing.T) {
		setPool(t, c, "faulty", `{"createDelay": "1h"}`)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := c.CreateVolume(ctx, request("slow", mebibyte, parameters))
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		setPool(t, c, "faulty", `{"createDelay": "1ms"}`)
		_, err = c.CreateVolume(t.Context(), request("slow", mebibyte, parameters))
		require.NoError(t, err)
	})
	t.Run("settings that cannot be read", func(t *testing.T) {
		setPool(t, c, "faulty", `{"createDelay": 5}`)
		_, err := c.CreateVolume(t.Context(), request("x", mebibyte, parameters))
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.ErrorContains(t, err, "pool faulty")
	})
}

func TestDeleteVolume(t *testing.T) {
	c := newController(t)
	reply, err := c.CreateVolume(t.Context(), request("a", mebibyte, nil))
	require.NoError(t, err)
	for range 2 { // the second time it is gone already
		_, err = c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: reply.GetVolume().GetVolumeId()})
		require.NoError(t, err)
		entries, err := os.ReadDir(c.volumes.folder)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
	_, err = c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestValidateVolumeCapabilities(t *testing.T) {
	c := newController(t)
	reply, err := c.CreateVolume(t.Context(), request("a", mebibyte, nil))
	require.NoError(t, err)
	id := reply.GetVolume().GetVolumeId()
	validate := func(id string, capabilities []*csi.VolumeCapability) (*csi.ValidateVolumeCapabilitiesResponse, error) {
		return c.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: id, VolumeCapabilities: capabilities})
	}
	confirmed, err := validate(id, mount())
	require.NoError(t, err)
	require.NotNil(t, confirmed.GetConfirmed())
	refused, err := validate(id, block())
	require.NoError(t, err)
	require.Nil(t, refused.GetConfirmed())
	_, err = validate("vol-unknown", mount())
	require.Equal(t, codes.NotFound, status.Code(err))
	_, err = validate(id, nil)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}
