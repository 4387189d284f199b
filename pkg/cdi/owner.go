package cdi

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The names of the definitions that Gild ships.
const (
	CronDefinition    = "dataimportcrons.cdi.kubevirt.io"
	SourceDefinition  = "datasources.cdi.kubevirt.io"
	ProfileDefinition = "storageprofiles.cdi.kubevirt.io"
	VolumeDefinition  = "datavolumes.cdi.kubevirt.io"
	ConfigDefinition  = "cdiconfigs.cdi.kubevirt.io"
	// InstallDefinition is that of installations of CDI. KubeVirt waits for the kind; Gild never makes
	// an object of it. CDI's operator may leave our label on the definitions that it takes over, but it
	// does nothing without such an object, so these are looked for too.
	InstallDefinition = "cdis.cdi.kubevirt.io"
)

// definitions are those that Gild ships, in the order in which they are looked at.
func definitions() []string {
	return []string{InstallDefinition, ConfigDefinition, ProfileDefinition, SourceDefinition, CronDefinition, VolumeDefinition}
}

const (
	// LabelOwned is "true" on each definition of cdi.kubevirt.io that is ours.
	LabelOwned = "gild.dev/owned"
	// LeftByCDI is its value on one that CDI was removed from, and that may become ours: whoever has removed CDI
	// writes it. Until it is ours, the kind is nobody's.
	LeftByCDI = "left-by-cdi"
)

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

// Foreign reports whether one of the definitions exists without our label, or an installation of CDI
// does, so that CDI, and not Gild, serves the kinds. It needs the permission to get the definitions
// that this package names and to list CDIs, and a reader that does not cache: one that does would
// list and watch.
func Foreign(ctx context.Context, reader client.Reader) (bool, error) {
	owner, err := FindOwner(ctx, reader)
	return owner == OwnerForeign, err
}

// FindOwner tells whose kinds the cluster has. It needs what Foreign needs.
func FindOwner(ctx context.Context, reader client.Reader) (Owner, error) {
	owner := OwnerGild
	for _, name := range definitions() {
		definition := &metav1.PartialObjectMetadata{}
		definition.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		err := reader.Get(ctx, client.ObjectKey{Name: name}, definition)
		switch {
		case apierrors.IsNotFound(err):
			owner = OwnerNone
		case err != nil:
			return "", fmt.Errorf("looking for CDI: getting the definition %s: %w", name, err)
		case definition.Labels[LabelOwned] != "true":
			return OwnerForeign, nil
		case name == InstallDefinition:
			installed, err := isInstalled(ctx, reader)
			if err != nil {
				return "", err
			}
			if installed {
				return OwnerForeign, nil
			}
		}
	}
	return owner, nil
}

// isInstalled reports whether there is an installation of CDI, whoever made the definition of the kind.
func isInstalled(ctx context.Context, reader client.Reader) (bool, error) {
	installations := &metav1.PartialObjectMetadataList{}
	installations.SetGroupVersionKind(schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "CDIList"})
	err := reader.List(ctx, installations, client.Limit(1))
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err): // the API server does not serve the kind yet
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for CDI: listing its installations: %w", err)
	}
	return len(installations.Items) > 0, nil
}
