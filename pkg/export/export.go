// Package export makes one volume readable over the network for one import: the Secret, Service,
// NetworkPolicy and Pod of an `importer serve` in the namespace of the volume's claim.
package export

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Spec says which volume is exported and to whom.
type Spec struct {
	// ID is the UID of the import that reads the export. It is a part of the objects' names.
	ID string
	// Claim is the claim of the volume. All objects are in its namespace.
	Claim    types.NamespacedName
	ClaimUID types.UID
	// ReadOnlyDevice tells a volume of the mode Block; the others hold disk.img.
	ReadOnlyDevice bool
	// Image is that of the importer. Nodes pull it with what the service account default of the claim's
	// namespace has: pull secrets of the system namespace are not there.
	Image string
	// Revision names the content of the volume, in printable ASCII without blanks and quotes. The ETag
	// of the export begins with it and ends with what changes when somebody writes to the volume:
	// it is not known before, so that a reader must not pin it.
	Revision string
	// Labels are set on all objects beside those of this package.
	Labels map[string]string
}

// State is what an export looks like now.
type State struct {
	// Ready tells that the export answers at URL, which is https.
	Ready bool
	URL   string
	// Token is the bearer token that URL wants, and CA the PEM certificate to trust. Both are set
	// as soon as the Secret is there, and stay the same until Clear.
	Token string
	CA    []byte
	// Waiting says for users why the export is not ready yet.
	Waiting string
	// Failure says why it never will be. Only Clear helps then; what was copied until now
	// stays good for a checkpoint.
	Failure string
	// Started is when what the export waits for was begun: it is newer after an exporter was
	// killed and another one has taken its place. Zero when nothing could be made.
	Started time.Time
}

// Exports makes and removes exports.
type Exports struct {
	client    client.Client
	live      client.Reader
	namespace string
	clock     clock.PassiveClock
}

// New makes Exports that let in the importer pods of systemNamespace. c is for writes alone and live
// for all reads, so that nothing of other namespaces is cached or watched.
func New(c client.Client, live client.Reader, systemNamespace string, clock clock.PassiveClock) *Exports {
	return &Exports{client: c, live: live, namespace: systemNamespace, clock: clock}
}

// Ensure makes what is missing of an export and says how it is. It can be called at any time and any
// number of times with the same Spec. An error is worth another call.
func (e *Exports) Ensure(ctx context.Context, spec Spec) (State, error) {
	state, err := e.ensure(ctx, spec)
	if refusal := refusalOf(spec, err); refusal != "" {
		state.Ready, state.Failure = false, refusal
		return state, nil
	}
	return state, err
}

func (e *Exports) ensure(ctx context.Context, spec Spec) (State, error) {
	secret := &corev1.Secret{}
	if err := e.find(ctx, spec, secret, func() (client.Object, error) { return newSecret(spec, e.clock.Now()) }); err != nil {
		return State{}, err
	}
	state := State{URL: urlOf(spec), Token: string(secret.Data[keyToken]), CA: secret.Data[keyCertificate], Started: secret.CreationTimestamp.Time}
	expires, err := expiry(secret)
	if err != nil {
		state.Failure = fmt.Sprintf("Secret %s of the export cannot be used: %v", secret.Name, err)
		return state, nil
	}
	if !e.clock.Now().Before(expires) {
		state.Failure = fmt.Sprintf("the copy took longer than %s, for which its export is valid", validity)
		return state, nil
	}
	// The pod comes last: it is never there without the policy that closes it.
	if err := e.find(ctx, spec, &networkingv1.NetworkPolicy{}, func() (client.Object, error) { return newPolicy(spec, e.namespace), nil }); err != nil {
		return state, err
	}
	if err := e.find(ctx, spec, &corev1.Service{}, func() (client.Object, error) { return newService(spec), nil }); err != nil {
		return state, err
	}
	pod := &corev1.Pod{}
	if err := e.find(ctx, spec, pod, func() (client.Object, error) { return newPod(spec, 1), nil }); err != nil {
		return state, err
	}
	state.Started = pod.CreationTimestamp.Time
	return state, e.follow(ctx, spec, pod, &state)
}

// find reads the object of the export into o, which is made when it is not there.
func (e *Exports) find(ctx context.Context, spec Spec, o client.Object, build func() (client.Object, error)) error {
	key := types.NamespacedName{Namespace: spec.Claim.Namespace, Name: nameOf(spec.ID)}
	err := e.live.Get(ctx, key, o)
	if apierrors.IsNotFound(err) {
		var made client.Object
		if made, err = build(); err != nil {
			return err
		}
		if err := e.client.Create(ctx, made); err != nil {
			return fmt.Errorf("making the export of claim %s: %w", spec.Claim, err)
		}
		return e.read(ctx, key, o)
	}
	if err != nil {
		return fmt.Errorf("reading the export of claim %s: %w", spec.Claim, err)
	}
	if !isOurs(spec, o) {
		return &foreign{kind: kindOf(o), name: key.String()}
	}
	return nil
}

// read takes what was just made from the API server: it has set defaults and times.
func (e *Exports) read(ctx context.Context, key types.NamespacedName, o client.Object) error {
	if err := e.live.Get(ctx, key, o); err != nil {
		return fmt.Errorf("reading the export %s: %w", key, err)
	}
	return nil
}
