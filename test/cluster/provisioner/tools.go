//go:build tools

// Package provisioner pins the CSI provisioner of the test cluster; nothing imports it.
package provisioner

import _ "github.com/kubernetes-csi/external-provisioner/v5/cmd/csi-provisioner"
