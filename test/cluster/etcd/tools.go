//go:build tools

// Package etcd pins the store of the test cluster; nothing imports it.
package etcd

import _ "go.etcd.io/etcd/server/v3"
