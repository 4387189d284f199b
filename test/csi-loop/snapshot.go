package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// origin is what a new volume begins as a copy of. The zero value is nothing.
type origin struct {
	volume
	image string // the file with its bytes
}

// origin finds what a request wants a copy of.
func (c *controller) origin(source *csi.VolumeContentSource, block bool) (origin, error) {
	if source == nil {
		return origin{}, nil
	}
	if c.snapshots == nil {
		return origin{}, status.Error(codes.InvalidArgument, "this driver creates empty volumes only")
	}
	var from *store
	var id string
	switch {
	case source.GetVolume() != nil:
		from, id = c.volumes, source.GetVolume().GetVolumeId()
	case source.GetSnapshot() != nil:
		from, id = c.snapshots, source.GetSnapshot().GetSnapshotId()
	}
	if id == "" {
		return origin{}, status.Error(codes.InvalidArgument, "the source of the volume has no id")
	}
	found, err := from.get(id)
	if err != nil {
		return origin{}, lookupError(err)
	}
	// A file system would be made over the bytes of a block device when it is staged.
	if found.Block != block {
		return origin{}, status.Errorf(codes.InvalidArgument, "the source %s has the other volume mode", id)
	}
	return origin{volume: found, image: from.image(id)}, nil
}

// CreateSnapshot takes a snapshot of a volume, or finds the one that was taken before
// by the same name.
func (c *controller) CreateSnapshot(ctx context.Context, request *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if c.snapshots == nil {
		return nil, status.Error(codes.Unimplemented, "this driver takes no snapshots")
	}
	if request.GetName() == "" || request.GetSourceVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the snapshot's name and its volume are needed")
	}
	wanted, limits, err := c.wantedSnapshot(request)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, time.Duration(limits.SnapshotDelay)); err != nil {
		return nil, err
	}
	existing, err := c.reserveSnapshot(wanted, limits)
	if err != nil {
		return nil, err
	}
	if existing == nil {
		defer c.snapshots.release(wanted.ID)
		if err := c.snapshots.putCopy(wanted, 0, c.volumes.image(wanted.Source)); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		existing = &wanted
	}
	described, err := c.describe(*existing)
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: described}, nil
}

// wantedSnapshot returns the snapshot to take and the faults of its class and pool.
func (c *controller) wantedSnapshot(request *csi.CreateSnapshotRequest) (volume, settings, error) {
	class, err := fromParameters(request.GetParameters())
	if err != nil {
		return volume{}, settings{}, status.Error(codes.InvalidArgument, err.Error())
	}
	// The snapshot is asked for again after the volume is gone: it stays what it is.
	wanted := volume{ID: identifySnapshot(request.GetName()), Name: request.GetName(), Source: request.GetSourceVolumeId(), Unready: class.Unready}
	if existing, err := c.snapshots.get(wanted.ID); err == nil && existing.Source == wanted.Source {
		return existing, settings{}, nil
	}
	source, err := c.volumes.get(wanted.Source)
	if err != nil {
		return volume{}, settings{}, lookupError(err)
	}
	wanted.Pool, wanted.Size, wanted.Block, wanted.Taken = source.Pool, source.Size, source.Block, c.now()
	parameters := map[string]string{}
	maps.Copy(parameters, request.GetParameters())
	parameters[poolParameter] = source.Pool
	_, limits, err := c.pools.read(parameters)
	if err != nil {
		return volume{}, settings{}, status.Error(codes.InvalidArgument, err.Error())
	}
	return wanted, limits, nil
}

// reserveSnapshot returns the snapshot that exists by that name, or keeps its identity
// for the caller, who then takes it.
func (c *controller) reserveSnapshot(wanted volume, limits settings) (*volume, error) {
	c.snapshots.mutex.Lock()
	defer c.snapshots.mutex.Unlock()
	existing, err := c.snapshots.get(wanted.ID)
	switch {
	case err == nil:
		if existing.Source != wanted.Source {
			return nil, status.Errorf(codes.AlreadyExists, "snapshot %s exists, of volume %s", wanted.Name, existing.Source)
		}
		return &existing, nil
	case !errors.Is(err, errNoVolume):
		return nil, status.Error(codes.Internal, err.Error())
	}
	if limits.RefuseSnapshots != "" {
		return nil, status.Errorf(codes.ResourceExhausted, "no snapshot of volume %s is taken: %s", wanted.Source, limits.RefuseSnapshots)
	}
	if !c.snapshots.reserve(wanted) {
		return nil, status.Errorf(codes.Aborted, "snapshot %s is being taken already", wanted.Name)
	}
	return nil, nil
}

// DeleteSnapshot deletes a snapshot. Copies of it stay: they share nothing with it.
func (c *controller) DeleteSnapshot(_ context.Context, request *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if c.snapshots == nil {
		return nil, status.Error(codes.Unimplemented, "this driver takes no snapshots")
	}
	id := request.GetSnapshotId()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "the snapshot has no id")
	}
	c.snapshots.mutex.Lock()
	defer c.snapshots.mutex.Unlock()
	if _, making := c.snapshots.making[id]; making {
		return nil, status.Errorf(codes.Aborted, "snapshot %s is being taken", id)
	}
	if err := c.snapshots.remove(id); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// ListSnapshots lists snapshots by identity. A token is the number of those before.
func (c *controller) ListSnapshots(_ context.Context, request *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	if c.snapshots == nil {
		return nil, status.Error(codes.Unimplemented, "this driver takes no snapshots")
	}
	all, err := c.snapshots.list()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	all = slices.DeleteFunc(all, func(v volume) bool {
		return (request.GetSnapshotId() != "" && v.ID != request.GetSnapshotId()) ||
			(request.GetSourceVolumeId() != "" && v.Source != request.GetSourceVolumeId())
	})
	first := 0
	if token := request.GetStartingToken(); token != "" {
		if first, err = strconv.Atoi(token); err != nil || first < 0 || first > len(all) {
			return nil, status.Errorf(codes.Aborted, "the token %q is not one of this list", token)
		}
	}
	reply := &csi.ListSnapshotsResponse{}
	last := len(all)
	if most := int(request.GetMaxEntries()); most > 0 && first+most < last {
		last = first + most
		reply.NextToken = strconv.Itoa(last)
	}
	for _, v := range all[first:last] {
		described, err := c.describe(v)
		if err != nil {
			return nil, err
		}
		reply.Entries = append(reply.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: described})
	}
	return reply, nil
}

// describe returns what CSI says of a snapshot.
func (c *controller) describe(v volume) (*csi.Snapshot, error) {
	_, limits, err := c.pools.read(map[string]string{poolParameter: v.Pool})
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.Snapshot{
		SnapshotId: v.ID, SourceVolumeId: v.Source, SizeBytes: v.Size,
		CreationTime: timestamppb.New(v.Taken), ReadyToUse: !v.Unready && !limits.Unready,
	}, nil
}
