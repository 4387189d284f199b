package cdi

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The names of the definitions that Gild ships.
const (
	CronDefinition    = "dataimportcrons.cdi.kubevirt.io"
	SourceDefinition  = "datasources.cdi.kubevirt.io"
	ProfileDefinition = "storageprofiles.cdi.kubevirt.io"
)

// InstallDefinition is the name of a definition that Gild does not ship: its objects are
// installations of CDI, which cannot run without it. CDI's operator may leave our label on
// the definitions that it takes over, so this one is looked for too.
const InstallDefinition = "cdis.cdi.kubevirt.io"

// LabelOwned is "true" on each definition of cdi.kubevirt.io that is ours.
const LabelOwned = "gild.dev/owned"

// Owner is whose kinds a cluster has.
type Owner string

// Whose kinds a cluster has.
const (
	// OwnerNone has none of the kinds, or not all.
	OwnerNone Owner = "none"
	// OwnerGild has all the kinds as Gild ships them.
	OwnerGild Owner = "gild"
	// OwnerForeign has CDI: its kinds must be left alone.
	OwnerForeign Owner = "foreign"
)

// Foreign reports whether one of the definitions exists without our label, so that CDI, and
// not Gild, serves the kinds. It needs the permission to get the four definitions that this
// package names, and a reader that does not cache: one that does would list and watch.
func Foreign(ctx context.Context, reader client.Reader) (bool, error) {
	owner, err := FindOwner(ctx, reader)
	return owner == OwnerForeign, err
}

// FindOwner tells whose kinds the cluster has. It needs what Foreign needs.
func FindOwner(ctx context.Context, reader client.Reader) (Owner, error) {
	owner := OwnerGild
	for _, name := range []string{InstallDefinition, CronDefinition, SourceDefinition, ProfileDefinition} {
		definition := &metav1.PartialObjectMetadata{}
		definition.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		err := reader.Get(ctx, client.ObjectKey{Name: name}, definition)
		switch {
		case apierrors.IsNotFound(err) && name != InstallDefinition:
			owner = OwnerNone
		case apierrors.IsNotFound(err):
		case err != nil:
			return "", fmt.Errorf("looking for CDI: getting the definition %s: %w", name, err)
		case definition.Labels[LabelOwned] != "true":
			return OwnerForeign, nil
		}
	}
	return owner, nil
}
