package main

import (
	"context"
	"log/slog"

	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrationServer tells the kubelet where the driver is, as the sidecar
// node-driver-registrar does for others.
type registrationServer struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
}

// GetInfo says what the socket is for.
func (r *registrationServer) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus hears whether the kubelet took the driver. The
// kubelet tries again by itself when it did not.
func (r *registrationServer) NotifyRegistrationStatus(
	_ context.Context, result *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	slog.Info("registration", "registered", result.PluginRegistered, "error", result.Error)
	return &registration.RegistrationStatusResponse{}, nil
}
