package export

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	labelName      = "app.kubernetes.io/name"
	labelComponent = "app.kubernetes.io/component"
	labelManagedBy = "app.kubernetes.io/managed-by"
	// labelExport is the ID of the export that an object belongs to.
	labelExport = "gild.dev/export"
	// labelSource is the UID of the claim that a pod exports.
	labelSource = "gild.dev/exports"
	// annotationTry counts the pods of one export, from 1.
	annotationTry = "gild.dev/export-try"

	componentExporter = "exporter"
	componentImporter = "importer"
	container         = "exporter"

	// port is where the exporter listens: no privilege is needed for it.
	port     = 8443
	portName = "https"

	// Keys of the Secret, which are files in the pod.
	keyCertificate = "tls.crt"
	keyKey         = "tls.key"
	keyToken       = "token"
)

// nameOf is the name of all objects of an export.
func nameOf(id string) string { return "gild-export-" + id }

// hostOf is the name that the Service has in the cluster, which every cluster domain completes.
func hostOf(spec Spec) string { return nameOf(spec.ID) + "." + spec.Claim.Namespace + ".svc" }

func urlOf(spec Spec) string { return "https://" + hostOf(spec) + ":8443/disk" }

// selector finds the pod of an export, and no other.
func selector(id string) map[string]string {
	return map[string]string{labelName: "gild", labelComponent: componentExporter, labelExport: id}
}

func metaOf(spec Spec) metav1.ObjectMeta {
	labels := map[string]string{}
	maps.Copy(labels, spec.Labels)
	maps.Copy(labels, selector(spec.ID))
	labels[labelManagedBy] = "gild-populator"
	return metav1.ObjectMeta{Namespace: spec.Claim.Namespace, Name: nameOf(spec.ID), Labels: labels}
}

// literal keeps the kubelet from expanding $(NAME) in an argument.
func literal(argument string) string { return strings.ReplaceAll(argument, "$", "$$") }
