//go:build tools

// Package sanity pins the conformance tests for CSI drivers; nothing imports it.
package sanity

import _ "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
