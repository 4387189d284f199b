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

// ours refuses an object that only has the name of one of the export.
func ours(spec Spec, o client.Object) error {
	for key, value := range selector(spec.ID) {
		if o.GetLabels()[key] != value {
			return &foreign{kind: kindOf(o), name: spec.Claim.Namespace + "/" + o.GetName()}
		}
	}
	return nil
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
