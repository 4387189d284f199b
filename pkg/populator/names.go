package populator

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Prefix is the domain of every label, annotation and finalizer of ours. The kinds
// live in virtualization.k8s.io, whose prefix is reserved for Kubernetes.
const Prefix = "gild.dev"

const (
	// labelClaimUID marks everything that belongs to the import of one claim.
	labelClaimUID = Prefix + "/claim-uid"
	// labelImportUID marks what was made for one VMDiskImport, of which a claim may see several.
	labelImportUID = Prefix + "/import-uid"
	// labelAttempt is the number of the attempt a Job or pod belongs to.
	labelAttempt = Prefix + "/attempt"
	// annotationClaim is "namespace/name" of the claim, for objects in the system namespace.
	annotationClaim = Prefix + "/claim"
	// annotationFrom is the namespace of what an import copies.
	annotationFrom = Prefix + "/copied-from"
	// annotationTargetUID is the UID of PVC' that a Job writes to.
	annotationTargetUID = Prefix + "/target-uid"
	// annotationHost is the host that an import's Job reads from.
	annotationHost = Prefix + "/host"

	// finalizerImport holds a VMDiskImport until its pods and copied secrets are gone.
	finalizerImport = Prefix + "/import"
	// finalizerImage, finalizerCron and finalizerDataSource hold a source while an import of it runs.
	finalizerImage      = Prefix + "/image-in-use"
	finalizerCron       = Prefix + "/cron-in-use"
	finalizerDataSource = Prefix + "/datasource-in-use"
	// finalizerPod holds an importer pod until the controller has read how it ended:
	// the result of an evicted pod would vanish with it.
	finalizerPod = Prefix + "/result"
	// finalizerClaim is lib-volume-populator's, on a claim that it fills.
	finalizerClaim = Prefix + "/populate-target-protection"

	// annotationProvisionedBy is on a volume that was made for a claim, and names who made it.
	annotationProvisionedBy = "pv.kubernetes.io/provisioned-by"
	// snapshotGroup is the API group of VolumeSnapshots.
	snapshotGroup = "snapshot.storage.k8s.io"

	// annotationSelectedNode is where the scheduler writes the node of a claim's first consumer.
	annotationSelectedNode = "volume.kubernetes.io/selected-node"

	labelName      = "app.kubernetes.io/name"
	labelComponent = "app.kubernetes.io/component"
	labelManagedBy = "app.kubernetes.io/managed-by"

	managedByPopulator = "gild-populator"

	componentImporter = "importer"
	componentExporter = "exporter"
	importerContainer = "importer"
)

// primeName is the name lib-volume-populator gives to PVC'.
func primeName(claimUID types.UID) string { return "prime-" + string(claimUID) }

// jobName is the name of the Job of one attempt.
func jobName(claimUID types.UID, attempt int32) string {
	return fmt.Sprintf("import-%s-%d", claimUID, attempt)
}

// copyName is the name of the copies of a claim's Secrets and ConfigMap in the system namespace.
func copyName(claimUID types.UID) string { return "import-" + string(claimUID) }

// importLabels are on everything that belongs to the import of one claim.
func importLabels(claimUID types.UID) map[string]string {
	return map[string]string{
		labelName:      "gild",
		labelComponent: componentImporter,
		labelManagedBy: managedByPopulator,
		labelClaimUID:  string(claimUID),
	}
}

// claimKey reads annotationClaim. ok is false when there is none.
func claimKey(annotations map[string]string) (key types.NamespacedName, ok bool) {
	namespace, name, ok := strings.Cut(annotations[annotationClaim], "/")
	return types.NamespacedName{Namespace: namespace, Name: name}, ok
}
