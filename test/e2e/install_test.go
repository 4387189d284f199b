//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

const (
	// deployFolder is what users install, cdiFolder what they install beside it for DataImportCrons.
	deployFolder = "../../deploy"
	cdiFolder    = "../../deploy/cdi"
	// policiesFolder is for clusters that have all the kinds of admission policies.
	policiesFolder = "../../deploy/policies"
	// populatorName and pollerName are the names of the Deployments and of their service accounts.
	populatorName = "gild-populator"
	pollerName    = "gild-poller"
	// fieldOwner owns the fields that the tests apply.
	fieldOwner = client.FieldOwner("gild-e2e")
	// readyWithin bounds the start of a Deployment.
	readyWithin = 2 * time.Minute
)

// importsPerHost is how many imports read from one host at once: nearly all tests have the same.
const importsPerHost = 12

// overlayText is what a user writes to install Gild: where the images are, how many imports
// run at once, and to which sources the importers are shut in, here the image server.
const overlayText = `
resources: [%s]
images:
- {name: gild-controller, newName: %s/gild-controller, newTag: %q}
patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: gild-populator, namespace: gild-system}
    spec: {template: {spec: {containers: [{name: populator, env: [{name: IMPORTER_IMAGE, value: %q}]}]}}}
- target: {kind: Deployment, name: gild-populator}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: --max-imports=%d}
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: --max-imports-per-host=%d}
- target: {kind: NetworkPolicy, name: gild-importer}
  patch: |
    - op: replace
      path: /spec/egress/1/to
      value: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}}]
`

// refuseForeign returns an error when Gild is there already and not made by a test run. What
// a test run that was cut short has left on test/cluster is removed first.
func (c *cluster) refuseForeign(ctx context.Context) error {
	var found []client.Object
	var crds apiextensionsv1.CustomResourceDefinitionList
	if err := c.List(ctx, &crds); err != nil {
		return fmt.Errorf("looking for an installed Gild: %w", err)
	}
	for i := range crds.Items {
		if group := crds.Items[i].Spec.Group; group == v1alpha1.Group || group == golden.Group {
			found = append(found, &crds.Items[i])
		}
	}
	namespace := &corev1.Namespace{}
	err := c.Get(ctx, client.ObjectKey{Name: systemNamespace}, namespace)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("looking for an installed Gild: %w", err)
	}
	if err == nil {
		found = append(found, namespace)
	}
	if len(found) == 0 {
		return nil
	}
	for _, object := range found {
		if object.GetLabels()[runLabel] == "" {
			return fmt.Errorf("looking for an installed Gild: %T %s exists and was not made by these tests, "+
				"so they do not touch this cluster; use another one, or uninstall Gild with kubectl delete -k deploy", object, object.GetName())
		}
	}
	if !c.testCluster {
		return errors.New("looking for an installed Gild: an earlier test run was cut short; " +
			"delete the namespaces labelled " + runLabel + ", wait until they are gone, then kubectl delete -k deploy")
	}
	return c.remove(ctx)
}

// install installs Gild and the servers of the tests, and waits until all work.
func (c *cluster) install(ctx context.Context) error {
	return errors.Join(c.installWeb(ctx), c.installGild(ctx))
}

// installGild installs deploy/ and deploy/cdi, and waits until they work.
func (c *cluster) installGild(ctx context.Context) error {
	objects, err := c.manifests(ctx)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := c.applyObject(ctx, object); err != nil {
			return err
		}
	}
	return errors.Join(c.waitDeployment(ctx, populatorName), c.waitDeployment(ctx, pollerName))
}

// manifests are the objects of deploy/ and deploy/cdi with the images under test, labelled as ours.
func (c *cluster) manifests(ctx context.Context) ([]*unstructured.Unstructured, error) {
	text, err := c.kustomize(ctx)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading deploy/: %w", err)
		}
		labels := object.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[runLabel] = c.run
		object.SetLabels(labels)
		objects = append(objects, object)
	}
}

// kustomize renders deploy/, deploy/cdi and what the cluster has the kinds for through an overlay that sets the images, as a user would.
func (c *cluster) kustomize(ctx context.Context) (string, error) {
	overlay, err := os.MkdirTemp("", "gild-e2e-overlay-")
	if err != nil {
		return "", fmt.Errorf("making an overlay: %w", err)
	}
	defer func() { _ = os.RemoveAll(overlay) }()
	if overlay, err = filepath.EvalSymlinks(overlay); err != nil {
		return "", fmt.Errorf("making an overlay: %w", err)
	}
	folders := []string{deployFolder, cdiFolder}
	if c.testCluster {
		folders = append(folders, policiesFolder)
	}
	for i := range folders {
		if folders[i], err = relativeTo(overlay, folders[i]); err != nil {
			return "", err
		}
	}
	text := fmt.Sprintf(overlayText, strings.Join(folders, ", "), c.images, c.tag, c.image("gild-importer"), 2*importsPerHost, importsPerHost, c.webNamespace())
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("writing an overlay: %w", err)
	}
	return c.kubectl(ctx, "kustomize", overlay)
}

// relativeTo is the path of folder as one writes it in base.
func relativeTo(base, folder string) (string, error) {
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", folder, err)
	}
	relative, err := filepath.Rel(base, absolute)
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", folder, err)
	}
	return relative, nil
}

// applyObject applies one object and takes its fields over, once its kind is known.
func (c *cluster) applyObject(ctx context.Context, object *unstructured.Unstructured) error {
	err := eventually(ctx, 30*time.Second, func(ctx context.Context) (bool, string, error) {
		err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership)
		if meta.IsNoMatchError(err) {
			return false, err.Error(), nil
		}
		return err == nil, "", err
	})
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// waitPopulator waits until every replica of the populator is the wanted one and ready.
func (c *cluster) waitPopulator(ctx context.Context) error {
	return c.waitDeployment(ctx, populatorName)
}

// waitDeployment waits until every replica of a Deployment is the wanted one and ready.
func (c *cluster) waitDeployment(ctx context.Context, name string) error {
	err := eventually(ctx, readyWithin, func(ctx context.Context) (bool, string, error) {
		deployment := &appsv1.Deployment{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: name}, deployment); err != nil {
			return false, "", err
		}
		status, want := deployment.Status, int32(1)
		if deployment.Spec.Replicas != nil {
			want = *deployment.Spec.Replicas
		}
		done := status.ObservedGeneration >= deployment.Generation && status.UpdatedReplicas == want &&
			status.ReadyReplicas == want && status.Replicas == want
		return done, fmt.Sprintf("%d of %d ready, %d updated, %d in all", status.ReadyReplicas, want, status.UpdatedReplicas, status.Replicas), nil
	})
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	return nil
}
