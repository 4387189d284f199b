package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	populatormachinery "github.com/kubernetes-csi/lib-volume-populator/v3/populator-machinery"
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// libraryVariable makes this program the populator that does no work, with this kubeconfig.
	libraryVariable = "GILD_COPIES_LIBRARY"
	libraryPrefix   = "copies.gild.dev"
	nothingKind     = "Nothing"
	nothings        = "nothings"
	nothingName     = "nothing"
	stopLimit       = 30 * time.Second
)

// runLibrary is the least that lib-volume-populator can be asked for: an empty volume, handed over as soon as
// there is one. Queue, events and limits are the library's own.
func runLibrary(kubeconfig string) {
	populatormachinery.RunControllerWithConfig(populatormachinery.VolumePopulatorConfig{
		Kubeconfig: kubeconfig, Namespace: libraryNamespace, Prefix: libraryPrefix,
		Gk:  schema.GroupKind{Group: libraryPrefix, Kind: nothingKind},
		Gvr: schema.GroupVersionResource{Group: libraryPrefix, Version: "v1", Resource: nothings},
		ProviderFunctionConfig: &populatormachinery.ProviderFunctionConfig{
			PopulateCompleteFn: func(_ context.Context, p populatormachinery.PopulatorParams) (bool, error) {
				return p.PvcPrime.Spec.VolumeName != "", nil // without a volume there is nothing to hand over
			},
		},
	})
}

// nothingDefinition is the kind that its claims name.
func nothingDefinition() *extv1.CustomResourceDefinition {
	return &extv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: nothings + "." + libraryPrefix},
		Spec: extv1.CustomResourceDefinitionSpec{
			Group: libraryPrefix, Scope: extv1.NamespaceScoped,
			Names: extv1.CustomResourceDefinitionNames{Kind: nothingKind, ListKind: nothingKind + "List", Plural: nothings, Singular: nothingName},
			Versions: []extv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &extv1.CustomResourceValidation{OpenAPIV3Schema: &extv1.JSONSchemaProps{Type: "object"}},
			}},
		},
	}
}

// library is the populator that does no work, in a process of its own as it would be in a cluster.
type library struct {
	command *exec.Cmd
	ended   chan error
}

// startLibrary starts it, with its output in a log beside the report.
func startLibrary(ctx context.Context, c *cluster, dir string) (*library, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: libraryPrefix, Version: "v1", Kind: nothingKind})
	object.SetNamespace(namespace)
	object.SetName(nothingName)
	err := wait.PollUntilContextTimeout(ctx, look, time.Minute, true, func(ctx context.Context) (bool, error) {
		err := c.client.Create(ctx, object.DeepCopy())
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return false, nil // its kind is not served yet
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("creating what the library's claims name: %w", err)
	}
	kubeconfig := filepath.Join(dir, "library.kubeconfig")
	if err := c.login(ctx, kubeconfig); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "library.log"))
	if err != nil {
		return nil, fmt.Errorf("opening the library's log: %w", err)
	}
	l := &library{command: exec.Command(self), ended: make(chan error, 1)} // stop asks it to end
	l.command.Env = append(os.Environ(), libraryVariable+"="+kubeconfig)
	l.command.Stdout, l.command.Stderr = log, log
	l.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := l.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the library: %w", err), log.Close())
	}
	go func() {
		l.ended <- l.command.Wait()
		_ = log.Close() // it has its own descriptor
	}()
	return l, nil
}

// stop asks it to end, and waits.
func (l *library) stop() error {
	if err := l.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the library: %w", err)
	}
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case err := <-l.ended:
		if err != nil {
			return fmt.Errorf("the library ended: %w: see its log", err)
		}
		return nil
	case <-limit.C:
		return errors.Join(fmt.Errorf("stopping the library: it does not end within %s", stopLimit), l.command.Process.Kill())
	}
}
