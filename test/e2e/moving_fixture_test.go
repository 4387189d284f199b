//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/golden"
)

// movingPage is the page whose commands move a cluster from CDI to Gild.
const movingPage = "../../docs/moving-from-cdi.md"

// cdiRole is one of CDI's roles that Gild has, too.
const cdiRole = golden.Group + ":edit"

// cdiWebhook is what CDI has the API server ask about DataImportCrons.
const cdiWebhook = "cdi-api-dataimportcron-validate"

// cdiLabels are on what CDI's operator makes.
func (f *fixture) cdiLabels() map[string]string {
	return map[string]string{golden.Group: "", "operator.cdi.kubevirt.io/createVersion": "v1.63.0", "app": "containerized-data-importer", runLabel: f.run}
}

// cdiDefinitions are CDI's definitions of the kinds that Gild has, too: without what Gild adds to them.
func (f *fixture) cdiDefinitions() []*apiextensionsv1.CustomResourceDefinition {
	f.Helper()
	files, err := filepath.Glob(filepath.Join(cdiFolder, "crds", "*.yaml"))
	require.NoError(f, err)
	require.Len(f, files, 6)
	var all []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		definition := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(f, yaml.UnmarshalStrict(text, definition))
		definition.Labels = f.cdiLabels()
		version := &definition.Spec.Versions[0]
		version.AdditionalPrinterColumns = nil
		withoutRules(version.Schema.OpenAPIV3Schema)
		all = append(all, definition)
	}
	return all
}

// withoutRules takes the rules in CEL from a schema.
func withoutRules(schema *apiextensionsv1.JSONSchemaProps) {
	schema.XValidations = nil
	for name, property := range schema.Properties {
		withoutRules(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		withoutRules(schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		withoutRules(schema.AdditionalProperties.Schema)
	}
}

// RemoveKinds removes the kinds of CDI, as Gild has them, and the poller, and stops the populator: until Gild is installed
// again, nobody may write what a test writes for CDI.
func (f *fixture) RemoveKinds() {
	f.Helper()
	f.Eventually("no DataImportCrons and DataVolumes of earlier tests", 2*time.Minute, func(ctx context.Context) (bool, string, error) {
		text, err := f.kubectl(ctx, "get", "dataimportcrons,datavolumes,datasources", "--all-namespaces", "--output=name")
		return text == "", text, err
	})
	f.Cleanup(f.installAgain)
	f.scalePopulator(0)
	for _, definition := range f.cdiDefinitions() {
		f.Kubectl("delete", "crd", definition.Name)
	}
	f.Kubectl("delete", "deployment", "--namespace="+systemNamespace, pollerName)
}

// installAgain puts Gild in the place of what a test that failed has left of CDI, for the sake of the tests that follow.
func (f *fixture) installAgain() {
	if !f.Failed() {
		return
	}
	ctx := context.WithoutCancel(f.ctx)
	kubectl := func(args ...string) {
		text, err := f.kubectl(ctx, args...)
		f.Logf("kubectl %s: %s %v", strings.Join(args, " "), text, err) // part of it may never have been there
	}
	kubectl("patch", "cdi", "cdi", "--type=merge", `--patch={"metadata":{"finalizers":null}}`)
	kubectl("delete", "validatingwebhookconfiguration", "--ignore-not-found", cdiWebhook)
	for _, definition := range f.cdiDefinitions() {
		kubectl("delete", "crd", "--ignore-not-found", definition.Name)
	}
	kubectl("delete", "crd", "--ignore-not-found", "volumeimportsources."+golden.Group)
	require.NoError(f, f.installGild(ctx))
}

// InstallCDI makes what an installation of CDI has, but for its programs: the definitions, which belong to an object of
// kind CDI, as a role and a webhook do.
func (f *fixture) InstallCDI(class string) {
	f.Helper()
	f.CreateSoon(f.newNamespace("cdi"))
	for _, name := range []string{"cdi-operator", "cdi-deployment"} {
		pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"name": name}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "cdi", Image: f.image("gild-controller")}}}}
		f.CreateSoon(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "cdi", Name: name, Labels: f.cdiLabels()},
			Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](0), Selector: &metav1.LabelSelector{MatchLabels: pod.Labels}, Template: pod}})
	}
	definitions := f.cdiDefinitions()
	for _, definition := range definitions {
		f.CreateSoon(definition)
	}
	imports := foreignDefinition("volumeimportsources", "VolumeImportSource", "volumeimportsource")
	imports.Labels = f.cdiLabels()
	f.CreateSoon(imports)
	installation := &cdiv1.CDI{ObjectMeta: metav1.ObjectMeta{Name: "cdi", Finalizers: []string{"operator.cdi.kubevirt.io"}}}
	f.CreateSoon(installation)
	owner := *metav1.NewControllerRef(installation, cdiv1.SchemeGroupVersion.WithKind("CDI"))
	for _, definition := range append(definitions, imports) {
		if definition.Name != cdi.InstallDefinition {
			f.own(definition, owner)
		}
	}
	f.own(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: cdiRole}}, owner)
	owned := metav1.ObjectMeta{Labels: f.cdiLabels(), OwnerReferences: []metav1.OwnerReference{owner}}
	profile, config := &cdiv1.StorageProfile{ObjectMeta: *owned.DeepCopy()}, &cdiv1.CDIConfig{ObjectMeta: *owned.DeepCopy()}
	profile.Name, config.Name = class, "config"
	profile.Spec.ClaimPropertySets = []cdiv1.ClaimPropertySet{{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem)}}
	config.Spec.FilesystemOverhead = &cdiv1.FilesystemOverhead{Global: "0.07"}
	f.CreateSoon(profile)
	f.CreateSoon(config)
	f.Cleanup(func() {
		// Gild makes them anew, and other tests know what is in them.
		ctx := context.WithoutCancel(f.ctx)
		require.NoError(f, f.DeleteAllOf(ctx, &cdiv1.StorageProfile{}))
		require.NoError(f, f.DeleteAllOf(ctx, &cdiv1.CDIConfig{}))
	})
}

// GuardCDI has the API server ask a webhook of CDI's that nobody answers for.
func (f *fixture) GuardCDI() {
	f.Helper()
	installation := &cdiv1.CDI{}
	require.NoError(f, f.Get(f.ctx, client.ObjectKey{Name: "cdi"}, installation))
	none, fail := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail
	webhook := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: cdiWebhook, Labels: map[string]string{golden.Group: "cdi-api", runLabel: f.run},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(installation, cdiv1.SchemeGroupVersion.WithKind("CDI"))}},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "dataimportcron-validate.cdi.kubevirt.io", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "cdi", Name: "cdi-api"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{golden.Group}, APIVersions: []string{"v1beta1"}, Resources: []string{"dataimportcrons"}},
			}},
		}},
	}
	f.CreateSoon(webhook)
}

// CreateSoon makes an object, once the API server knows its kind, or puts it in the place of one of its name.
func (f *fixture) CreateSoon(object client.Object) {
	f.Helper()
	f.Eventually(fmt.Sprintf("creating %T %s", object, object.GetName()), time.Minute, func(ctx context.Context) (bool, string, error) {
		object.SetResourceVersion("")
		err := f.Create(ctx, object)
		if !apierrors.IsAlreadyExists(err) {
			return err == nil, fmt.Sprint(err), nil
		}
		there := &metav1.PartialObjectMetadata{}
		gvk, err := f.GroupVersionKindFor(object)
		require.NoError(f, err)
		there.SetGroupVersionKind(gvk)
		if err := f.Get(ctx, client.ObjectKeyFromObject(object), there); err != nil {
			return false, "", client.IgnoreNotFound(err)
		}
		object.SetResourceVersion(there.ResourceVersion)
		err = f.Update(ctx, object)
		return err == nil, fmt.Sprint(err), nil
	})
}

// own has an object belong to another one.
func (f *fixture) own(object client.Object, owner metav1.OwnerReference) {
	f.Helper()
	require.NoError(f, f.Get(f.ctx, client.ObjectKeyFromObject(object), object))
	before, ok := object.DeepCopyObject().(client.Object)
	require.True(f, ok)
	object.SetOwnerReferences([]metav1.OwnerReference{owner})
	require.NoError(f, f.Patch(f.ctx, object, client.MergeFrom(before)))
}

// FilledByCDI makes a claim that is bound to the volume of another one, which goes, as CDI does it in the end.
func (f *fixture) FilledByCDI(name string, from claim, edit func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	source := f.PVC(from)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: source.Spec.VolumeName}}
	f.editVolume(volume, func() { volume.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain })
	require.NoError(f, f.Delete(f.ctx, source))
	f.WaitGone(from)
	target := &corev1.PersistentVolumeClaim{ObjectMeta: f.meta(name), Spec: *source.Spec.DeepCopy()}
	target.Spec.DataSource, target.Spec.DataSourceRef = nil, ofCDI(name)
	target.Labels["app"] = "containerized-data-importer"
	target.Annotations = map[string]string{golden.AnnotationPodPhase: "Succeeded", "cdi.kubevirt.io/storage.usePopulator": "true"}
	edit(target)
	require.NoError(f, f.Create(f.ctx, target))
	f.editVolume(volume, func() {
		volume.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: f.namespace, Name: name, UID: target.UID}
	})
	f.Eventually("claim bound", time.Minute, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, f.key(name), target)
		return target.Status.Phase == corev1.ClaimBound, string(target.Status.Phase), err
	})
	f.editVolume(volume, func() { volume.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete })
	return claim{name: name, uid: string(target.UID), mode: from.mode}
}

func ofCDI(name string) *corev1.TypedObjectReference {
	return &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: "VolumeImportSource", Name: "volume-import-source-" + name}
}

func (f *fixture) editVolume(volume *corev1.PersistentVolume, edit func()) {
	f.Helper()
	require.NoError(f, f.Get(f.ctx, client.ObjectKeyFromObject(volume), volume))
	before := volume.DeepCopy()
	edit()
	require.NoError(f, f.Patch(f.ctx, volume, client.MergeFrom(before)))
}

// OwnedByDataVolume makes the DataVolume of a claim as CDI leaves it, in a phase.
func (f *fixture) OwnedByDataVolume(c claim, phase cdiv1.DataVolumePhase, source cdiv1.DataVolumeSource, labels map[string]string) *cdiv1.DataVolume {
	f.Helper()
	pvc := f.PVC(c)
	volume := &cdiv1.DataVolume{ObjectMeta: f.meta(c.name), Spec: cdiv1.DataVolumeSpec{Source: &source, Storage: &cdiv1.StorageSpec{
		StorageClassName: pvc.Spec.StorageClassName, Resources: pvc.Spec.Resources}}}
	for key, value := range labels {
		volume.Labels[key] = value
	}
	f.CreateSoon(volume)
	volume.Status = cdiv1.DataVolumeStatus{ClaimName: c.name, Phase: phase, Progress: "100.0%"}
	require.NoError(f, f.Status().Update(f.ctx, volume))
	before := pvc.DeepCopy()
	pvc.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(volume, cdiv1.SchemeGroupVersion.WithKind("DataVolume"))}
	metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, "cdi.kubevirt.io/createdForDataVolume", string(volume.UID))
	require.NoError(f, f.Patch(f.ctx, pvc, client.MergeFrom(before)))
	return volume
}

// Follow runs the commands of a page, one block after the other. Where the page installs Gild, it gets the images under
// test. before is called with each block.
func (f *fixture) Follow(page string, before func(block string)) {
	f.Helper()
	content, err := os.ReadFile(page)
	require.NoError(f, err)
	folder := f.TempDir()
	base, kinds := f.renderParts(folder)
	for _, block := range strings.Split(string(content), "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		before(block)
		block = strings.ReplaceAll(block, "kubectl apply -k deploy/cdi\n", "kubectl apply -f "+kinds+"\n")
		block = strings.ReplaceAll(block, "kubectl apply -k deploy\n", "kubectl apply -f "+base+"\n")
		command := exec.CommandContext(f.ctx, "bash", "-eu", "-o", "pipefail", "-c", block)
		command.Dir = folder
		command.Env = append(os.Environ(), "KUBECONFIG="+f.kubeconfig)
		text, err := command.CombinedOutput()
		f.Logf("%s\n%s", block, text)
		require.NoError(f, err)
	}
}

// renderParts writes what deploy/ and deploy/cdi install into two files.
func (f *fixture) renderParts(folder string) (base, kinds string) {
	f.Helper()
	own := f.Kubectl("kustomize", cdiFolder)
	objects, err := f.manifests(f.ctx)
	require.NoError(f, err)
	var parts [2]strings.Builder
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		require.NoError(f, err)
		i := 0
		for one := range strings.SplitSeq(own, "\n---\n") {
			if strings.Contains("\n"+one, "\nkind: "+object.GetKind()+"\n") && strings.Contains(one+"\n", "\n  name: "+object.GetName()+"\n") {
				i = 1
			}
		}
		parts[i].WriteString("---\n" + string(text))
	}
	base, kinds = filepath.Join(folder, "deploy.yaml"), filepath.Join(folder, "deploy-cdi.yaml")
	require.NoError(f, os.WriteFile(base, []byte(parts[0].String()), 0o600))
	require.NoError(f, os.WriteFile(kinds, []byte(parts[1].String()), 0o600))
	return base, kinds
}
