package export

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// foreign is an object with our name that we have not made.
type foreign struct{ kind, name string }

func (f *foreign) Error() string {
	return fmt.Sprintf("%s %s is there and is not ours: remove it", f.kind, f.name)
}

// isOurs tells an object of the export from one that only has its name.
func isOurs(spec Spec, o client.Object) bool {
	for key, value := range selector(spec.ID) {
		if o.GetLabels()[key] != value {
			return false
		}
	}
	return true
}

// refusalOf says for users why the API server does not take an export, empty when another try may
// end otherwise.
func refusalOf(spec Spec, err error) string {
	var other *foreign
	switch namespace := spec.Claim.Namespace; {
	case errors.As(err, &other):
		return other.Error()
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("the export may not be made in namespace %s: %v (permissions are those of deploy/copy-rbac.yaml)", namespace, err)
	case apierrors.IsInvalid(err), apierrors.IsNotFound(err):
		return fmt.Sprintf("the export cannot be made in namespace %s: %v", namespace, err)
	}
	return ""
}
