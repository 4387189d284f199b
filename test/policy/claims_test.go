package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"

	"github.com/gild-project/gild/test/definition"
	"github.com/gild-project/gild/test/policy"
)

const deploy = "../../deploy/"

// claim is one with a spec, written as the inside of a YAML flow mapping. As the API server shows it to policies, it has
// null where its Go type has no value and says so.
func claim(t *testing.T, spec string) *unstructured.Unstructured {
	t.Helper()
	parsed := definition.Parse(t, "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: vms, name: web}, spec: {"+spec+"}}")
	var typed corev1.PersistentVolumeClaim
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(parsed.Object, &typed))
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&typed)
	require.NoError(t, err)
	return &unstructured.Unstructured{Object: object}
}

func creating(object *unstructured.Unstructured) policy.Request {
	return policy.Request{Operation: admission.Create, Resource: "persistentvolumeclaims", Object: object}
}

func TestLift(t *testing.T) {
	policies := policy.Load(t, deploy+"policies/lift.yaml")
	for name, test := range map[string]struct{ spec, want string }{
		"a VMDiskImage": {"dataSource: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: a}",
			"dataSource: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: a}, dataSourceRef: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: a}"},
		"a DataSource": {"volumeMode: Block, dataSource: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: a}",
			"volumeMode: Block, dataSource: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: a}, dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: a}"},
		"a DataImportCron": {"dataSource: {apiGroup: cdi.kubevirt.io, kind: DataImportCron, name: a}",
			"dataSource: {apiGroup: cdi.kubevirt.io, kind: DataImportCron, name: a}, dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataImportCron, name: a}"},
		"both already":                    {"dataSource: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: a}, dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: b}", ""},
		"a reference":                     {"dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: a}", ""},
		"a claim":                         {"dataSource: {kind: PersistentVolumeClaim, name: a}", ""},
		"a snapshot":                      {"dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: a}", ""},
		"a kind of CDI that is not ours":  {"dataSource: {apiGroup: cdi.kubevirt.io, kind: VolumeImportSource, name: a}", ""},
		"our kind's name, another group":  {"dataSource: {apiGroup: example.org, kind: DataSource, name: a}", ""},
		"our groups, the wrong way round": {"dataSource: {apiGroup: virtualization.k8s.io, kind: DataSource, name: a}", ""},
		"none":                            {"volumeMode: Block", ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := test.want
			if want == "" {
				want = test.spec
			}
			require.Equal(t, claim(t, want).Object, policies.Mutate(t, creating(claim(t, test.spec))).Object)
		})
	}
}

// drop is what Kubernetes does between mutating and validating policies: a reference with a namespace
// goes as a whole.
func drop(object *unstructured.Unstructured) *unstructured.Unstructured {
	if namespace, _, _ := unstructured.NestedString(object.Object, "spec", "dataSourceRef", "namespace"); namespace != "" {
		unstructured.RemoveNestedField(object.Object, "spec", "dataSourceRef")
	}
	return object
}

func TestNamespace(t *testing.T) {
	policies := policy.Load(t, deploy+"policies/namespace.yaml", deploy+"policies/lift.yaml")
	for name, test := range map[string]struct{ spec, refused string }{
		"a DataSource": {"dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: fedora, namespace: images}",
			"dataSourceRef.namespace is not honoured, and the volume would be empty (asked for: DataSource images/fedora). " +
				"Make a DataSource in the namespace of the claim whose spec.source.pvc names the claim of the other namespace, and name that one without a namespace. " +
				"The other namespace must allow it with a ReferenceGrant."},
		"a DataImportCron": {"dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataImportCron, name: fedora, namespace: images}",
			"dataSourceRef.namespace is not honoured, and the volume would be empty (asked for: DataImportCron images/fedora). " +
				"Make a DataSource in the namespace of the claim whose spec.source.pvc names the claim of the other namespace, and name that one without a namespace. " +
				"The other namespace must allow it with a ReferenceGrant."},
		"a VMDiskImage": {"dataSourceRef: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: fedora, namespace: images}",
			"dataSourceRef.namespace is not honoured, and the volume would be empty (asked for: VMDiskImage images/fedora). " +
				"Make a VMDiskImage in the namespace of the claim, and name it without a namespace."},
		"in its own namespace": {"dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: fedora, namespace: vms}",
			"dataSourceRef.namespace is not honoured, and the volume would be empty (asked for: DataSource vms/fedora). " +
				"Make a DataSource in the namespace of the claim whose spec.source.pvc names the claim of the other namespace, and name that one without a namespace. " +
				"The other namespace must allow it with a ReferenceGrant."},
		"without a namespace":             {"dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: fedora}", ""},
		"an empty namespace":              {`dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: fedora, namespace: ""}`, ""},
		"dataSource alone":                {"dataSource: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: fedora}", ""},
		"a claim of another namespace":    {"dataSourceRef: {kind: PersistentVolumeClaim, name: fedora, namespace: images}", ""},
		"a snapshot of another namespace": {"dataSourceRef: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: fedora, namespace: images}", ""},
		"somebody else's kind":            {"dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: VolumeCloneSource, name: fedora, namespace: images}", ""},
		"nothing":                         {"volumeMode: Block", ""},
	} {
		t.Run(name, func(t *testing.T) {
			mutated := drop(policies.Mutate(t, creating(claim(t, test.spec))))
			require.Equal(t, test.refused, policies.Refusal(t, creating(mutated)))
			changed := claim(t, test.spec)
			require.Empty(t, policies.Refusal(t, policy.Request{Operation: admission.Update, Resource: "persistentvolumeclaims", Object: mutated, Old: changed}),
				"a claim that exists is left alone")
		})
	}
}

// TestMarkAlone has somebody make the mark by hand: there is nothing to gain from it.
func TestMarkAlone(t *testing.T) {
	policies := policy.Load(t, deploy+"policies/namespace.yaml")
	object := claim(t, "dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: DataSource, name: fedora, namespace: images}")
	object.SetAnnotations(map[string]string{"gild.dev/asked-for": "nothing", "team": "a"})
	mutated := policies.Mutate(t, creating(object))
	require.Equal(t, map[string]string{"gild.dev/asked-for": "DataSource images/fedora", "team": "a"}, mutated.GetAnnotations())
}

// TestMap has the annotation become a reference, beside the other policies for claims.
func TestMap(t *testing.T) {
	policies := policy.Load(t, deploy+"policies/lift.yaml", deploy+"policies/map.yaml", deploy+"policies/namespace.yaml")
	const (
		annotation = "virtualization.k8s.io/disk-importer"
		ubuntu     = "dataSourceRef: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: ubuntu-22.04}"
		another    = "apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: debian-12"
	)
	annotated := func(spec, value string) *unstructured.Unstructured {
		object := claim(t, spec)
		object.SetAnnotations(map[string]string{annotation: value, "team": "a"})
		return object
	}
	for name, test := range map[string]struct{ spec, value, want string }{
		"alone":                   {"", "ubuntu-22.04", ubuntu},
		"with a volume mode":      {"volumeMode: Block", "ubuntu-22.04", "volumeMode: Block, " + ubuntu},
		"empty":                   {"", "", ""},
		"beside a reference":      {"dataSourceRef: {" + another + "}", "ubuntu-22.04", "dataSourceRef: {" + another + "}"},
		"beside a source of ours": {"dataSource: {" + another + "}", "ubuntu-22.04", "dataSource: {" + another + "}, dataSourceRef: {" + another + "}"},
		"beside a claim":          {"dataSource: {kind: PersistentVolumeClaim, name: a}", "ubuntu-22.04", "dataSource: {kind: PersistentVolumeClaim, name: a}"},
	} {
		t.Run(name, func(t *testing.T) {
			mutated := policies.Mutate(t, creating(annotated(test.spec, test.value)))
			require.Equal(t, annotated(test.want, test.value).Object, mutated.Object)
			require.Empty(t, policies.Refusal(t, creating(mutated)))
		})
	}
	plain := claim(t, "volumeMode: Block")
	require.Equal(t, claim(t, "volumeMode: Block").Object, policies.Mutate(t, creating(plain)).Object, "no annotations at all")
	changed := policy.Request{Operation: admission.Update, Resource: "persistentvolumeclaims", Object: annotated("", "ubuntu-22.04"), Old: claim(t, "")}
	require.Equal(t, annotated("", "ubuntu-22.04").Object, policies.Mutate(t, changed).Object, "what a claim refers to cannot be changed")
}
