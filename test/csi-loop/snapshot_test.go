package main

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// filled makes a volume of 2 MiB whose first bytes are the text, and returns its identity.
func filled(t *testing.T, c *controller, name, text string, parameters map[string]string) string {
	t.Helper()
	reply, err := c.CreateVolume(t.Context(), request(name, 2*mebibyte, parameters))
	require.NoError(t, err)
	write(t, c, reply.GetVolume().GetVolumeId(), text)
	return reply.GetVolume().GetVolumeId()
}

func write(t *testing.T, c *controller, id, text string) {
	t.Helper()
	file, err := os.OpenFile(c.volumes.image(id), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

func ofVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

func ofSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func snapshot(t *testing.T, c *controller, name, id string, parameters map[string]string) (*csi.Snapshot, error) {
	t.Helper()
	reply, err := c.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: id, Parameters: parameters})
	return reply.GetSnapshot(), err
}

func TestCopies(t *testing.T) {
	c := newController(t)
	id := filled(t, c, "golden", "good bytes", nil)
	cut, err := snapshot(t, c, "cut", id, nil)
	require.NoError(t, err)
	require.True(t, cut.GetReadyToUse())
	require.Equal(t, int64(2*mebibyte), cut.GetSizeBytes())
	require.Equal(t, id, cut.GetSourceVolumeId())
	require.True(t, taken.Equal(cut.GetCreationTime().AsTime()))
	want := read(t, c.volumes.image(id))
	write(t, c, id, "later ones")

	for name, test := range map[string]struct {
		edit  func(*csi.CreateVolumeRequest)
		size  int64
		first string
		code  codes.Code
	}{
		"a clone":                  {func(*csi.CreateVolumeRequest) {}, 2 * mebibyte, "later ones", codes.OK},
		"a restored snapshot":      {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = ofSnapshot(cut.GetSnapshotId()) }, 2 * mebibyte, "good bytes", codes.OK},
		"larger":                   {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 5 * mebibyte }, 5 * mebibyte, "later ones", codes.OK},
		"of the source's size":     {func(r *csi.CreateVolumeRequest) { r.CapacityRange = nil }, 2 * mebibyte, "later ones", codes.OK},
		"smaller":                  {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = mebibyte }, 0, "", codes.OutOfRange},
		"a limit below the source": {func(r *csi.CreateVolumeRequest) { r.CapacityRange = &csi.CapacityRange{LimitBytes: mebibyte} }, 0, "", codes.OutOfRange},
		"the other mode":           {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = block() }, 0, "", codes.InvalidArgument},
		"of no volume":             {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = ofVolume("vol-none") }, 0, "", codes.NotFound},
		"of no snapshot":           {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = ofSnapshot("snap-none") }, 0, "", codes.NotFound},
		"of a snapshot as volume":  {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = ofVolume(cut.GetSnapshotId()) }, 0, "", codes.NotFound},
		"without an identity":      {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = ofVolume("") }, 0, "", codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("copy of "+name, 2*mebibyte, nil)
			r.VolumeContentSource = ofVolume(id)
			test.edit(r)
			reply, err := c.CreateVolume(t.Context(), r)
			require.Equal(t, test.code, status.Code(err), err)
			if test.code != codes.OK {
				return
			}
			require.Equal(t, test.size, reply.GetVolume().GetCapacityBytes())
			require.Equal(t, r.GetVolumeContentSource(), reply.GetVolume().GetContentSource())
			got := read(t, c.volumes.image(reply.GetVolume().GetVolumeId()))
			require.Len(t, got, int(test.size))
			require.Equal(t, test.first, string(got[:10]))
			require.True(t, bytes.Equal(want[10:], got[10:len(want)]))
			require.Empty(t, bytes.Trim(got[len(want):], "\x00"), "the rest is zero")
			again, err := c.CreateVolume(t.Context(), r)
			require.NoError(t, err)
			require.Equal(t, reply.GetVolume().GetVolumeId(), again.GetVolume().GetVolumeId())
			r.VolumeContentSource = nil
			_, err = c.CreateVolume(t.Context(), r)
			require.Equal(t, codes.AlreadyExists, status.Code(err), "an empty volume is not a copy")
		})
	}
}

func TestCopiesOutliveTheirSource(t *testing.T) {
	c := newController(t)
	id := filled(t, c, "golden", "good bytes", nil)
	cut, err := snapshot(t, c, "cut", id, nil)
	require.NoError(t, err)
	_, err = c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	require.NoError(t, err)
	again, err := snapshot(t, c, "cut", id, nil)
	require.NoError(t, err, "it is asked for again until it is ready, whatever became of the volume")
	require.Equal(t, cut.GetSnapshotId(), again.GetSnapshotId())
	r := request("restored", 2*mebibyte, nil)
	r.VolumeContentSource = ofSnapshot(cut.GetSnapshotId())
	reply, err := c.CreateVolume(t.Context(), r)
	require.NoError(t, err)
	for range 2 {
		_, err = c.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: cut.GetSnapshotId()})
		require.NoError(t, err)
	}
	entries, err := os.ReadDir(c.snapshots.folder)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Equal(t, "good bytes", string(read(t, c.volumes.image(reply.GetVolume().GetVolumeId()))[:10]))
}

func TestSnapshotRefusals(t *testing.T) {
	c := newController(t)
	id, other := filled(t, c, "a", "a", nil), filled(t, c, "b", "b", nil)
	_, err := snapshot(t, c, "cut", id, nil)
	require.NoError(t, err)
	_, err = snapshot(t, c, "cut", other, nil)
	require.Equal(t, codes.AlreadyExists, status.Code(err))
	_, err = snapshot(t, c, "nothing", "vol-none", nil)
	require.Equal(t, codes.NotFound, status.Code(err))
	_, err = snapshot(t, c, "", id, nil)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = snapshot(t, c, "odd", id, map[string]string{unreadyParameter: "perhaps"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = c.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))

	require.True(t, c.snapshots.reserve(volume{ID: identifySnapshot("busy")}))
	_, err = snapshot(t, c, "busy", id, nil)
	require.Equal(t, codes.Aborted, status.Code(err))
	_, err = c.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: identifySnapshot("busy")})
	require.Equal(t, codes.Aborted, status.Code(err))
	c.snapshots.release(identifySnapshot("busy"))
	_, err = snapshot(t, c, "busy", id, nil)
	require.NoError(t, err)
}

func TestSnapshotFaults(t *testing.T) {
	c := newController(t)
	parameters := map[string]string{poolParameter: "faulty"}
	id := filled(t, c, "golden", "good bytes", parameters)
	t.Run("never ready, of the pool", func(t *testing.T) {
		setPool(t, c, "faulty", `{"snapshotsUnready": true}`)
		cut, err := snapshot(t, c, "unready", id, nil)
		require.NoError(t, err)
		require.False(t, cut.GetReadyToUse())
		setPool(t, c, "faulty", `{}`)
		cut, err = snapshot(t, c, "unready", id, nil)
		require.NoError(t, err)
		require.True(t, cut.GetReadyToUse())
	})
	t.Run("never ready, of the class", func(t *testing.T) {
		for range 2 {
			cut, err := snapshot(t, c, "class", id, map[string]string{unreadyParameter: "true"})
			require.NoError(t, err)
			require.False(t, cut.GetReadyToUse())
		}
		list, err := c.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: identifySnapshot("class")})
		require.NoError(t, err)
		require.Len(t, list.GetEntries(), 1)
		require.False(t, list.GetEntries()[0].GetSnapshot().GetReadyToUse())
	})
	t.Run("refused until told otherwise", func(t *testing.T) {
		setPool(t, c, "faulty", `{"refuseSnapshots": "too many"}`)
		_, err := snapshot(t, c, "refused", id, nil)
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.ErrorContains(t, err, "too many")
		setPool(t, c, "faulty", `{}`)
		_, err = snapshot(t, c, "refused", id, nil)
		require.NoError(t, err)
	})
	t.Run("no answer", func(t *testing.T) {
		setPool(t, c, "faulty", `{"snapshotDelay": "1h", "copyDelay": "1h"}`)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := c.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "slow", SourceVolumeId: id})
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		r := request("copy", 2*mebibyte, parameters)
		_, err = c.CreateVolume(t.Context(), r)
		require.NoError(t, err, "an empty volume is made at once")
		r.Name, r.VolumeContentSource = "slow copy", ofVolume(id)
		_, err = c.CreateVolume(ctx, r)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	})
}

func TestListSnapshots(t *testing.T) {
	c := newController(t)
	first, second := filled(t, c, "first", "1", nil), filled(t, c, "second", "2", nil)
	for _, name := range []string{"a", "b", "c"} {
		_, err := snapshot(t, c, name, first, nil)
		require.NoError(t, err)
	}
	_, err := snapshot(t, c, "d", second, nil)
	require.NoError(t, err)
	list := func(r *csi.ListSnapshotsRequest) *csi.ListSnapshotsResponse {
		t.Helper()
		reply, err := c.ListSnapshots(t.Context(), r)
		require.NoError(t, err)
		return reply
	}
	require.Len(t, list(&csi.ListSnapshotsRequest{SourceVolumeId: first}).GetEntries(), 3)
	require.Len(t, list(&csi.ListSnapshotsRequest{SnapshotId: identifySnapshot("d")}).GetEntries(), 1)
	require.Empty(t, list(&csi.ListSnapshotsRequest{SnapshotId: "snap-none"}).GetEntries())
	found := map[string]bool{}
	token := ""
	for range 2 {
		page := list(&csi.ListSnapshotsRequest{MaxEntries: 2, StartingToken: token})
		require.Len(t, page.GetEntries(), 2)
		for _, entry := range page.GetEntries() {
			found[entry.GetSnapshot().GetSnapshotId()] = true
		}
		token = page.GetNextToken()
	}
	require.Len(t, found, 4)
	require.Empty(t, token)
	for _, odd := range []string{"x", "-1", "5"} {
		_, err := c.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: odd})
		require.Equal(t, codes.Aborted, status.Code(err))
	}
}

func TestPlainDriverCopiesNothing(t *testing.T) {
	c := newController(t)
	id := filled(t, c, "golden", "good bytes", nil)
	c.snapshots = nil
	capabilities, err := c.ControllerGetCapabilities(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, capabilities.GetCapabilities(), 2)
	r := request("clone", 2*mebibyte, nil)
	r.VolumeContentSource = ofVolume(id)
	_, err = c.CreateVolume(t.Context(), r)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = snapshot(t, c, "cut", id, nil)
	require.Equal(t, codes.Unimplemented, status.Code(err))
	_, err = c.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "snap-1"})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	_, err = c.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
}
