package grant

import (
	"cmp"
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
)

// The kinds of what may be copied.
const (
	KindClaim    = "PersistentVolumeClaim"
	KindSnapshot = "VolumeSnapshot"
)

const (
	// Role is the ClusterRole in deploy/ that lets whoever is bound to it in a namespace copy from
	// that namespace.
	Role = "gild-copy"

	// defaultServiceAccount is the one of a namespace that is asked about, as with CDI: a claim does not
	// tell who made it.
	defaultServiceAccount = "default"
)

// Subject is who copies: a claim of a namespace, on behalf of one of its service accounts.
type Subject struct {
	Namespace string
	// ServiceAccount is defaultServiceAccount where it is empty.
	ServiceAccount string
}

func (s Subject) serviceAccount() string { return cmp.Or(s.ServiceAccount, defaultServiceAccount) }

// Grants asks the API server, each time anew: a grant may be revoked at any time.
type Grants struct {
	live   client.Reader
	client client.Client
}

// Answer is whether a copy is allowed.
type Answer struct {
	Allowed bool
	// Message says what the owner of the source's namespace can do to allow it; empty when it is
	// allowed.
	Message string
}

// New makes Grants that read with live, which must not be a cache, and ask with c.
func New(live client.Reader, c client.Client) *Grants {
	return &Grants{live: live, client: c}
}

// AddToScheme registers the kinds that are read and asked with scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		return err
	}
	return gatewayv1beta1.Install(scheme)
}

// Check tells whether a claim of the subject may be filled with a copy of an object of another
// namespace: kind is KindClaim or KindSnapshot. In its own namespace it always may.
func (g *Grants) Check(ctx context.Context, by Subject, kind, namespace, name string) (Answer, error) {
	if by.Namespace == namespace {
		return Answer{Allowed: true}, nil
	}
	known, granted, err := g.referred(ctx, by.Namespace, kind, namespace, name)
	if err != nil || granted {
		return Answer{Allowed: granted}, err
	}
	permitted, err := g.permitted(ctx, by, kind, namespace, name)
	if err != nil || permitted {
		return Answer{Allowed: permitted}, err
	}
	return Answer{Message: advice(known, by, kind, namespace, name)}, nil
}

// referred tells whether a ReferenceGrant allows the copy; known is false where the cluster does not
// know that kind.
func (g *Grants) referred(ctx context.Context, from, kind, namespace, name string) (known, granted bool, err error) {
	var grants gatewayv1beta1.ReferenceGrantList
	err = g.live.List(ctx, &grants, client.InNamespace(namespace))
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return false, false, nil
	case err != nil:
		return false, false, fmt.Errorf("listing the ReferenceGrants of namespace %s: %w", namespace, err)
	}
	for i := range grants.Items {
		if allows(&grants.Items[i], from, kind, name) {
			return true, true, nil
		}
	}
	return true, false, nil
}

// permitted asks whether a service account may copy, by the same rules as CDI.
func (g *Grants) permitted(ctx context.Context, by Subject, kind, namespace, name string) (bool, error) {
	ask := func(review *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error) {
		return review, g.client.Create(ctx, review)
	}
	may := cdiv1.CanServiceAccountClonePVC
	switch kind {
	case KindClaim:
	case KindSnapshot:
		may = cdiv1.CanServiceAccountCloneSnapshot
	default:
		return false, fmt.Errorf("asking about a copy of a %s: only %s and %s are copied", kind, KindClaim, KindSnapshot)
	}
	allowed, _, err := may(ask, namespace, name, by.Namespace, by.serviceAccount())
	if err != nil {
		return false, fmt.Errorf("asking whether service account %s/%s may copy %s %s/%s: %w", by.Namespace, by.serviceAccount(), kind, namespace, name, err)
	}
	return allowed, nil
}
