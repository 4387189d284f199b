// Package cdi holds what Gild shares with KubeVirt's CDI: the kinds DataImportCron, DataSource
// and StorageProfile of cdi.kubevirt.io. Their Go types are CDI's own; their definitions are
// generated from these and edited by the program in generate. Where CDI itself runs, the
// kinds are CDI's, and this package tells so.
package cdi

//go:generate go tool -modfile=../../test/tools/go.mod controller-gen crd:generateEmbeddedObjectMeta=true paths=kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1 output:crd:dir=../../deploy/cdi/crds
//go:generate go run ./generate ../../deploy/cdi/crds
