package main

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// version is what the driver says its version is; it has no releases.
const version = "0"

// identity is the CSI identity service.
type identity struct {
	csi.UnimplementedIdentityServer
	name string
}

// GetPluginInfo returns the driver's name.
func (i *identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: i.name, VendorVersion: version}, nil
}

// GetPluginCapabilities says that there is a controller service.
func (i *identity) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	service := &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		{Type: &csi.PluginCapability_Service_{Service: service}},
	}}, nil
}

// Probe says that the driver works: it has nothing to wait for.
func (i *identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}
