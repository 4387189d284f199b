package main

import (
	"context"
	"errors"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	mebibyte    = 1 << 20
	defaultSize = 64 * mebibyte
	maxSize     = 1 << 40
)

// controller is the CSI controller service: it creates and deletes volumes and
// snapshots.
type controller struct {
	csi.UnimplementedControllerServer
	volumes   *store
	snapshots *store // nil: the driver copies nothing
	pools     pools
	now       func() time.Time
}

// ControllerGetCapabilities lists what the service can do.
func (c *controller) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	reply := &csi.ControllerGetCapabilitiesResponse{}
	kinds := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER, // claims with ReadWriteOncePod need it
	}
	if c.snapshots != nil {
		kinds = append(kinds,
			csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
			csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
			csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS, // says whether a snapshot that was handed over is ready
		)
	}
	for _, kind := range kinds {
		reply.Capabilities = append(reply.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: kind}},
		})
	}
	return reply, nil
}

// CreateVolume creates a volume, empty or as a copy of a volume or snapshot, or finds
// the one that was created before by the same name.
func (c *controller) CreateVolume(ctx context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if request.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume has no name")
	}
	block, err := wantsBlock(request.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	from, err := c.origin(request.GetVolumeContentSource(), block)
	if err != nil {
		return nil, err
	}
	size, err := wantedSize(request.GetCapacityRange(), from.Size)
	if err != nil {
		return nil, err
	}
	pool, limits, err := c.pools.read(request.GetParameters())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	delay := limits.Delay
	if from.ID != "" {
		delay += limits.CopyDelay
	}
	if err := sleep(ctx, time.Duration(delay)); err != nil {
		return nil, err
	}
	wanted := volume{ID: identify(request.GetName()), Name: request.GetName(), Pool: pool, Size: size, Block: block, Source: from.ID}
	existing, err := c.reserve(wanted, limits, request.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	if existing != nil {
		return created(*existing, request.GetVolumeContentSource()), nil
	}
	defer c.volumes.release(wanted.ID)
	realSize := size
	if limits.Real > 0 {
		realSize = limits.Real
	}
	if from.ID == "" {
		err = c.volumes.put(wanted, realSize)
	} else {
		err = c.volumes.putCopy(wanted, realSize, from.image)
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return created(wanted, request.GetVolumeContentSource()), nil
}

// reserve returns the volume that exists by that name, or keeps its identity for the
// caller, who then makes it.
func (c *controller) reserve(wanted volume, limits settings, capacity *csi.CapacityRange) (*volume, error) {
	c.volumes.mutex.Lock()
	defer c.volumes.mutex.Unlock()
	existing, err := c.volumes.get(wanted.ID)
	switch {
	case err == nil:
		if !fits(existing, capacity) || existing.Block != wanted.Block || existing.Source != wanted.Source {
			return nil, status.Errorf(codes.AlreadyExists, "volume %s exists with other properties", wanted.Name)
		}
		return &existing, nil
	case !errors.Is(err, errNoVolume):
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := c.admit(wanted, limits); err != nil {
		return nil, err
	}
	if !c.volumes.reserve(wanted) {
		return nil, status.Errorf(codes.Aborted, "volume %s is being made already", wanted.Name)
	}
	return nil, nil
}

// admit refuses a volume for which the pool has no room.
func (c *controller) admit(wanted volume, limits settings) error {
	if limits.Refuse != "" {
		return status.Errorf(codes.ResourceExhausted, "pool %q creates no volume: %s", wanted.Pool, limits.Refuse)
	}
	if limits.Capacity == 0 {
		return nil
	}
	used, err := c.volumes.used(wanted.Pool)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if used+wanted.Size > limits.Capacity {
		return status.Errorf(codes.ResourceExhausted, "pool %q has %d of %d bytes left, the volume needs %d",
			wanted.Pool, max(0, limits.Capacity-used), limits.Capacity, wanted.Size)
	}
	return nil
}

// DeleteVolume deletes a volume that no node uses.
func (c *controller) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	id := request.GetVolumeId()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume has no id")
	}
	c.volumes.mutex.Lock()
	defer c.volumes.mutex.Unlock()
	if _, making := c.volumes.making[id]; making {
		return nil, status.Errorf(codes.Aborted, "volume %s is being made", id)
	}
	devices, err := findLoops(c.volumes.image(id))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if len(devices) > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is in use: it is staged as %s", id, devices[0])
	}
	if err := c.volumes.remove(id); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ValidateVolumeCapabilities confirms what an existing volume can be used for.
func (c *controller) ValidateVolumeCapabilities(
	_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if request.GetVolumeId() == "" || len(request.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the volume's id and capabilities are needed")
	}
	existing, err := c.volumes.get(request.GetVolumeId())
	if err != nil {
		return nil, lookupError(err)
	}
	block, err := wantsBlock(request.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	if block != existing.Block {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "the volume has the other volume mode"}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: request.GetVolumeContext(), VolumeCapabilities: request.GetVolumeCapabilities(), Parameters: request.GetParameters(),
	}}, nil
}

// wantedSize returns the bytes to create, in whole mebibytes. A copy is at least as
// large as what it is a copy of; copied is 0 for an empty volume.
func wantedSize(wanted *csi.CapacityRange, copied int64) (int64, error) {
	size := int64(defaultSize)
	if copied > 0 {
		size = copied
	}
	if required := wanted.GetRequiredBytes(); required > 0 {
		size = (required + mebibyte - 1) / mebibyte * mebibyte
	}
	if limit := wanted.GetLimitBytes(); limit > 0 && size > limit {
		return 0, status.Errorf(codes.OutOfRange, "the volume needs %d bytes, more than the limit of %d", size, limit)
	}
	if size < copied {
		return 0, status.Errorf(codes.OutOfRange, "the volume would have %d bytes, its source has %d", size, copied)
	}
	if size > maxSize {
		return 0, status.Errorf(codes.OutOfRange, "the volume needs %d bytes, more than a volume can have", size)
	}
	return size, nil
}

// fits says whether an existing volume is of a size that was asked for.
func fits(existing volume, wanted *csi.CapacityRange) bool {
	limit := wanted.GetLimitBytes()
	return existing.Size >= wanted.GetRequiredBytes() && (limit == 0 || existing.Size <= limit)
}

// wantsBlock says whether the volume is a raw block device.
func wantsBlock(capabilities []*csi.VolumeCapability) (bool, error) {
	if len(capabilities) == 0 {
		return false, status.Error(codes.InvalidArgument, "the volume has no capabilities")
	}
	blocks := 0
	for _, capability := range capabilities {
		if capability.GetBlock() != nil {
			blocks++
		}
	}
	if blocks > 0 && blocks < len(capabilities) {
		return false, status.Error(codes.InvalidArgument, "a volume is either a block device or a file system")
	}
	return blocks > 0, nil
}

func created(v volume, source *csi.VolumeContentSource) *csi.CreateVolumeResponse {
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: v.ID, CapacityBytes: v.Size, ContentSource: source}}
}

// lookupError turns an error of the store into CSI's.
func lookupError(err error) error {
	if errors.Is(err, errNoVolume) {
		return status.Error(codes.NotFound, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

// sleep waits, or returns early when the caller gives up.
func sleep(ctx context.Context, span time.Duration) error {
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-time.After(span):
		return nil
	}
}
