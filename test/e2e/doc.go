// Package e2e tests Gild on a real cluster, the way its users meet it: it installs deploy/ and deploy/cdi,
// makes claims, breaks things, and reads the volumes back.
//
//	go test -tags e2e -timeout 30m ./test/e2e
//
// It wants kubectl, qemu-img, gzip, xz and zstd on the PATH, and these variables:
//
//	KUBECONFIG          the cluster; there is no default
//	GILD_IMAGES         where its nodes find gild-controller, gild-importer and
//	                    gild-imageserver, such as registry.example/gild;
//	                    default: the registry of test/cluster
//	GILD_TAG            the tag of these images; default: dev. Nodes do not pull a tag
//	                    again that they have: give changed images another one
//	GILD_TEST_CLUSTER   1 when the cluster is the one of test/cluster, whose storage
//	                    and registry take faults; tests that need them are skipped elsewhere
//	STORAGE_CLASS       the class of the claims; default: the cluster's default class
//	GILD_E2E_RECORD     folder for what was seen: objects, events, logs; default: a
//	                    temporary one that is kept when a test fails
//	GILD_E2E_KEEP       1 keeps what failed tests made, and Gild itself
//
// On a cluster where Gild is installed already it refuses to run. Everything it makes bears
// the label gild.dev/e2e and is in namespaces of its own, but gild-system, the
// definitions and roles of deploy/ and deploy/cdi, and StorageClasses named gild-e2e-… At
// the end it removes all of it and fails if an import has left anything behind. Manifests that
// others wrote name their namespaces, a StorageClass and kinds of KubeVirt and OpenShift: these
// are made on the test cluster only.
package e2e
