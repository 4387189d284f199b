package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
)

const (
	systemNamespace = "gild-system"
	account         = "gild-poller"
	storageClass    = "scale"
	// tokenSeconds is longer than any run.
	tokenSeconds = 24 * 60 * 60
	started      = "export KUBECONFIG="
)

// api is a real API server, without nodes.
type api struct {
	process *program
	config  *rest.Config
	client  client.Client
	audit   *auditLog
	// poller is the kubeconfig of the poller's service account.
	poller string
}

// startAPI starts etcd and the API server, and installs Gild's kinds.
func startAPI(ctx context.Context, dir string) (*api, error) {
	path, err := build(ctx, dir, "./test/cluster")
	if err != nil {
		return nil, err
	}
	command := exec.Command(path, "control-plane") // it is asked to end below, not killed
	reader, writer := io.Pipe()
	command.Stdout = writer
	process, err := startProgram(ctx, filepath.Join(dir, "control-plane.log"), command)
	if err != nil {
		return nil, err
	}
	a := &api{process: process, poller: filepath.Join(dir, "poller.kubeconfig")}
	go func() {
		<-process.ended
		_ = writer.Close() // it returns nil
	}()
	kubeconfig, err := waitStarted(reader)
	if err != nil {
		return nil, errors.Join(err, process.alive())
	}
	a.audit = &auditLog{path: filepath.Join(filepath.Dir(kubeconfig), "log", "audit.log"), user: "system:serviceaccount:" + systemNamespace + ":" + account}
	if err := a.install(ctx, kubeconfig); err != nil {
		return nil, errors.Join(err, process.stop())
	}
	return a, nil
}

// waitStarted reads what the control plane prints until it says where its kubeconfig is.
func waitStarted(out *io.PipeReader) (string, error) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(os.Stderr, lines.Text())
		if path, ok := strings.CutPrefix(lines.Text(), started); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }() // it prints nothing more that matters
			return path, nil
		}
	}
	return "", errors.New("starting the control plane: it ended before it was up")
}

func (a *api) install(ctx context.Context, kubeconfig string) error {
	var err error
	if a.config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	a.config.QPS = -1 // no limit: what is prepared is not measured
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, extv1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	if a.client, err = client.New(a.config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("reaching the API server: %w", err)
	}
	for _, pattern := range []string{"deploy/namespace.yaml", "deploy/crds/*.yaml", "deploy/cdi/crds/*.yaml", "deploy/cdi/rbac.yaml"} {
		if err := a.apply(ctx, pattern); err != nil {
			return err
		}
	}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: storageClass, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "scale.gild.dev"}
	if err := a.client.Create(ctx, class); err != nil {
		return fmt.Errorf("creating a StorageClass: %w", err)
	}
	return a.login(ctx, kubeconfig)
}

// apply creates what is in manifests, and waits until kinds among it are served.
func (a *api) apply(ctx context.Context, pattern string) error {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return errors.Join(err, fmt.Errorf("no manifests in %s: run this in the folder of the checkout", pattern))
	}
	for _, file := range files {
		text, err := os.Open(file)
		if err != nil {
			return err
		}
		defer func() { _ = text.Close() }()
		for decoder := utilyaml.NewYAMLOrJSONDecoder(text, 4096); ; {
			object := &unstructured.Unstructured{}
			if err := decoder.Decode(object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return fmt.Errorf("reading %s: %w", file, err)
			}
			if err := a.client.Create(ctx, object); err != nil {
				return fmt.Errorf("creating what is in %s: %w", file, err)
			}
			if err := a.served(ctx, object); err != nil {
				return fmt.Errorf("waiting until %s is served: %w", object.GetName(), err)
			}
		}
	}
	return nil
}

// served waits until the kind that an object defines is served, if it defines one.
func (a *api) served(ctx context.Context, object client.Object) error {
	if object.GetObjectKind().GroupVersionKind().Kind != "CustomResourceDefinition" {
		return nil
	}
	kind := &extv1.CustomResourceDefinition{}
	return wait.PollUntilContextTimeout(ctx, time.Second/10, time.Minute, true, func(ctx context.Context) (bool, error) {
		err := a.client.Get(ctx, client.ObjectKeyFromObject(object), kind)
		return slices.ContainsFunc(kind.Status.Conditions, func(c extv1.CustomResourceDefinitionCondition) bool {
			return c.Type == extv1.Established && c.Status == extv1.ConditionTrue
		}), err
	})
}

// login writes a kubeconfig with a token of the poller's own account, so that the API server
// limits it as it does in a cluster, and the audit log tells its requests.
func (a *api) login(ctx context.Context, kubeconfig string) error {
	owner := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: account}}
	seconds := int64(tokenSeconds)
	token := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if err := a.client.SubResource("token").Create(ctx, owner, token); err != nil {
		return fmt.Errorf("asking for a token of the poller: %w", err)
	}
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	return clientcmd.WriteToFile(*config, a.poller)
}
