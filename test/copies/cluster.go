package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
)

const (
	systemNamespace = "gild-system"
	account         = "gild-populator"
	// namespace has the golden claims and their copies; libraryNamespace the PVC' of the library.
	namespace        = "gild-copies"
	libraryNamespace = "gild-copies-library"
	libraryAccount   = "library"
	// tokenSeconds is longer than any run.
	tokenSeconds = 24 * 60 * 60
	look         = time.Second / 4
	endLimit     = 3 * time.Minute
)

// cluster is where Gild runs.
type cluster struct {
	kubeconfig string
	// address is that of a node, on which pods reach this machine if it is the node.
	address string
	client  client.Client
	core    kubernetes.Interface
}

func connect(ctx context.Context) (*cluster, error) {
	c := &cluster{kubeconfig: os.Getenv("KUBECONFIG")}
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS = -1 // no limit: what the benchmark does is not measured
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, extv1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	if c.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	if c.core, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	var nodes corev1.NodeList
	if err := c.client.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("reading the nodes: %w", err)
	}
	for _, node := range nodes.Items {
		for _, address := range node.Status.Addresses {
			if address.Type == corev1.NodeInternalIP {
				c.address = address.Address
				return c, nil
			}
		}
	}
	return nil, errors.New("the cluster has no node with an address: start one")
}

// objects are what the benchmark needs in the cluster, apart from what it measures.
func (c *cluster) objects() []client.Object {
	all := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: libraryNamespace}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: libraryNamespace, Name: libraryAccount}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: libraryNamespace},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: libraryNamespace, Name: libraryAccount}},
		},
		nothingDefinition(),
	}
	for _, schema := range flowSchemas() {
		all = append(all, schema)
	}
	return all
}

// install makes what the benchmark needs, after a run that was killed has been cleared away.
func (c *cluster) install(ctx context.Context) error {
	if err := c.remove(ctx); err != nil {
		return err
	}
	for _, object := range c.objects() {
		if err := c.client.Create(ctx, object); err != nil {
			return fmt.Errorf("preparing the cluster: %w", err)
		}
	}
	// The populator renews its lease every other second: once that is counted, all is.
	err := wait.PollUntilContextTimeout(ctx, look, time.Minute, true, func(ctx context.Context) (bool, error) {
		counts, err := c.writes(ctx)
		return counts[leases] > 0, err
	})
	if err != nil {
		return fmt.Errorf("waiting until the API server counts the populator's writes (does Gild run in %s?): %w", systemNamespace, err)
	}
	return nil
}

// remove deletes what install has made, one after the other: the namespace of the claims goes while there is
// still somebody who lets go of them.
func (c *cluster) remove(ctx context.Context) error {
	for _, object := range c.objects() {
		err := wait.PollUntilContextTimeout(ctx, look, endLimit, true, func(ctx context.Context) (bool, error) {
			err := c.client.Delete(ctx, object)
			if apierrors.IsConflict(err) { // a namespace that is on its way already
				err = nil
			}
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		})
		if err != nil {
			return fmt.Errorf("removing %T %s: %w", object, object.GetName(), err)
		}
	}
	return nil
}

// login writes a kubeconfig of the library's account, so that the API server tells its writes.
func (c *cluster) login(ctx context.Context, path string) error {
	owner := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: libraryNamespace, Name: libraryAccount}}
	seconds := int64(tokenSeconds)
	token := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if err := c.client.SubResource("token").Create(ctx, owner, token); err != nil {
		return fmt.Errorf("asking for a token: %w", err)
	}
	config, err := clientcmd.LoadFromFile(c.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	return clientcmd.WriteToFile(*config, path)
}
