package main

import (
	"context"
	"errors"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// node is the CSI node service: it makes volumes usable for pods of this host.
type node struct {
	csi.UnimplementedNodeServer
	name    string
	volumes *store
}

// NodeGetCapabilities lists what the service can do.
func (n *node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	reply := &csi.NodeGetCapabilitiesResponse{}
	for _, kind := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		reply.Capabilities = append(reply.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: kind}},
		})
	}
	return reply, nil
}

// NodeGetInfo returns the node's name. There is no topology: there is one node.
func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

// NodeStageVolume makes a loop device and, for a file system, formats it once
// and mounts it. The file system of a copy grows to the copy's size before.
func (n *node) NodeStageVolume(ctx context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	v, err := n.find(request.GetVolumeId(), request.GetStagingTargetPath(), request.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	n.volumes.mutex.Lock()
	defer n.volumes.mutex.Unlock()
	device, err := attach(n.volumes.image(v.ID))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if v.Block {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	if v.Source != "" {
		if err := grow(ctx, device, request.GetStagingTargetPath()); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	if err := mountDevice(ctx, device, request.GetStagingTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// NodeUnstageVolume undoes NodeStageVolume.
func (n *node) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if request.GetVolumeId() == "" || request.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume's id and the staging path are needed")
	}
	n.volumes.mutex.Lock()
	defer n.volumes.mutex.Unlock()
	if err := unmount(request.GetStagingTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := detach(n.volumes.image(request.GetVolumeId())); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume shows a staged volume at the path of a pod.
func (n *node) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if request.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the staging path is needed")
	}
	v, err := n.find(request.GetVolumeId(), request.GetTargetPath(), request.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	n.volumes.mutex.Lock()
	defer n.volumes.mutex.Unlock()
	source, target := request.GetStagingTargetPath(), emptyFolder
	if v.Block {
		devices, err := findLoops(n.volumes.image(v.ID))
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if len(devices) == 0 {
			return nil, status.Errorf(codes.FailedPrecondition, "volume %s is not staged", v.ID)
		}
		source, target = devices[0], emptyFile
	}
	if err := bind(source, request.GetTargetPath(), target, request.GetReadonly()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume undoes NodePublishVolume.
func (n *node) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if request.GetVolumeId() == "" || request.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume's id and the target path are needed")
	}
	n.volumes.mutex.Lock()
	defer n.volumes.mutex.Unlock()
	if err := unmount(request.GetTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := os.Remove(request.GetTargetPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// find checks what every request to stage or publish must have.
func (n *node) find(id, path string, capability *csi.VolumeCapability) (volume, error) {
	if id == "" || path == "" || capability == nil {
		return volume{}, status.Error(codes.InvalidArgument, "the volume's id, a path and a capability are needed")
	}
	v, err := n.volumes.get(id)
	if err != nil {
		return volume{}, lookupError(err)
	}
	if v.Block != (capability.GetBlock() != nil) {
		return volume{}, status.Errorf(codes.InvalidArgument, "volume %s has the other volume mode", id)
	}
	return v, nil
}
