//go:build tools

// Package provisioner pins the CSI provisioner of the test cluster; nothing imports it.
//
// Its go.mod holds Kubernetes at the versions of ../kubernetes, so that both share
// compiled packages and a first build is minutes shorter. The provisioner was made
// for earlier ones: gateway-api is raised to a version that fits, otelgrpc is held
// at the one the provisioner names.
package provisioner

import _ "github.com/kubernetes-csi/external-provisioner/v5/cmd/csi-provisioner"
