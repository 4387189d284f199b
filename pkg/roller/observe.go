package roller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/datasource"
	"github.com/gild-project/gild/pkg/golden"
)

// observer sees the world of a cron. The cache may be behind, and has of claims and imports only what
// pkg/trim keeps; live is neither.
type observer struct {
	cache client.Reader
	live  client.Reader
	clock clock.PassiveClock
	// since is when the roller has begun.
	since time.Time
}

// observe reads all that a decision about a cron needs.
func (o *observer) observe(ctx context.Context, cron *cdiv1.DataImportCron) (*world, error) {
	w := &world{cron: cron, now: o.clock.Now(), since: o.since}
	readRevisions(w)
	for _, look := range []func(context.Context, *world) error{o.seeClaims, o.seeDataSource, o.seeSnapshot, o.seeFormer, o.seeOrigin, o.seeClass, o.seeProfile, o.seeConfig} {
		if err := look(ctx, w); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// readRevisions reads the annotations of the cron.
func readRevisions(w *world) {
	annotations := w.cron.Annotations
	// What was imported is only compared, so one that cannot be read is none.
	w.imported, _ = golden.ParseRevision(annotations[golden.AnnotationImported])
	if w.imported != nil && golden.CheckDigest(w.imported.Digest) != nil {
		w.imported = nil
	}
	digest := annotations[golden.AnnotationDesiredDigest]
	polled, err := golden.ParseRevision(annotations[golden.AnnotationPolled])
	switch {
	case digest == "":
		w.undecided = "no source was found yet"
	case err != nil && annotations[golden.AnnotationPolled] != "":
		w.undecided = err.Error()
	case polled == nil || polled.Digest != digest:
		w.undecided = "the source of the digest that is asked for is being looked up"
	default:
		w.desired = polled
	}
}

func (o *observer) seeClaims(ctx context.Context, w *world) error {
	var claims corev1.PersistentVolumeClaimList
	if err := o.cache.List(ctx, &claims, client.InNamespace(w.cron.Namespace), client.MatchingFields{indexCron: w.cron.Name}); err != nil {
		return fmt.Errorf("listing golden claims: %w", err)
	}
	for i := range claims.Items {
		claim, ok := asGolden(&claims.Items[i], w.cron.Name)
		if !ok {
			if isLeft(w, &claims.Items[i]) {
				w.left = append(w.left, &goldenClaim{PersistentVolumeClaim: &claims.Items[i]})
			}
			continue
		}
		if err := o.seeImport(ctx, claim); err != nil {
			return err
		}
		w.claims = append(w.claims, claim)
	}
	slices.SortFunc(w.claims, func(a, b *goldenClaim) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return nil
}

// asGolden reads a golden claim of a cron. One without its label, without a revision, or with another
// source than claimFor gives, was neither made by us nor taken over.
func asGolden(claim *corev1.PersistentVolumeClaim, cron string) (*goldenClaim, bool) {
	revision, err := golden.ParseRevision(claim.Annotations[golden.AnnotationRevision])
	if err != nil || claim.Labels[golden.LabelCron] != cron {
		return nil, false
	}
	found := &goldenClaim{PersistentVolumeClaim: claim, revision: revision}
	if found.adopted() {
		return found, true
	}
	ref := claim.Spec.DataSourceRef
	if ref == nil || ptr.Deref(ref.APIGroup, "") != golden.Group || ref.Kind != golden.CronKind || ref.Name != cron || ptr.Deref(ref.Namespace, claim.Namespace) != claim.Namespace {
		return nil, false
	}
	return found, true
}

func (o *observer) seeDataSource(ctx context.Context, w *world) error {
	source := &cdiv1.DataSource{}
	key := types.NamespacedName{Namespace: w.cron.Namespace, Name: w.cron.Spec.ManagedDataSource}
	if err := o.cache.Get(ctx, key, source); err != nil {
		return wrap(client.IgnoreNotFound(err), "reading DataSource %s", key.Name)
	}
	w.dataSource = source
	manager := source.Labels[golden.LabelCron]
	if manager == "" || manager == w.cron.Name {
		return nil
	}
	other := &cdiv1.DataImportCron{}
	if err := o.cache.Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: manager}, other); err != nil {
		return wrap(client.IgnoreNotFound(err), "reading DataImportCron %s", manager)
	}
	if other.Spec.ManagedDataSource == source.Name {
		w.rival = manager
	}
	return nil
}

// seeSnapshot looks at the snapshot that CDI has left in place of a golden claim, as long as the DataSource names it.
func (o *observer) seeSnapshot(ctx context.Context, w *world) error {
	last := w.cron.Status.LastImportedPVC
	if w.desired == nil || last == nil || w.dataSource == nil || w.dataSource.Spec.Source.Snapshot == nil ||
		ptr.Deref(w.cron.Status.SourceFormat, "") != cdiv1.DataImportCronSourceFormatSnapshot {
		return nil
	}
	found, err := datasource.Look(ctx, o.cache, o.live, w.dataSource)
	if err != nil {
		return fmt.Errorf("following DataSource %s: %w", w.dataSource.Name, err)
	}
	if found.Ready && found.Snapshot != nil && found.Snapshot.GetName() == last.Name && found.Snapshot.GetNamespace() == w.cron.Namespace {
		w.snapshot = last.Name
	}
	return nil
}

// seeFormer reads the DataSources that bear the cron's label under another name than the cron manages
// now. Those that another cron manages are that one's to take over.
func (o *observer) seeFormer(ctx context.Context, w *world) error {
	var sources cdiv1.DataSourceList
	if err := o.cache.List(ctx, &sources, client.InNamespace(w.cron.Namespace), client.MatchingLabels{golden.LabelCron: w.cron.Name}); err != nil {
		return fmt.Errorf("listing the DataSources of the cron: %w", err)
	}
	for i := range sources.Items {
		source := &sources.Items[i]
		if source.Name == w.cron.Spec.ManagedDataSource || !source.DeletionTimestamp.IsZero() {
			continue
		}
		var heirs cdiv1.DataImportCronList
		if err := o.cache.List(ctx, &heirs, client.InNamespace(w.cron.Namespace), client.MatchingFields{indexManaged: source.Name}); err != nil {
			return fmt.Errorf("listing the crons of DataSource %s: %w", source.Name, err)
		}
		if len(heirs.Items) == 0 {
			w.former = append(w.former, source)
		}
	}
	return nil
}

// seeOrigin reads the claim that is copied, from the API server: of claims that are not golden the cache
// has neither class nor size.
func (o *observer) seeOrigin(ctx context.Context, w *world) error {
	if w.desired == nil || w.desired.Claim == nil {
		return nil
	}
	key := types.NamespacedName{Namespace: w.desired.Claim.Namespace, Name: w.desired.Claim.Name}
	origin := &corev1.PersistentVolumeClaim{}
	if err := o.live.Get(ctx, key, origin); err != nil {
		return wrap(client.IgnoreNotFound(err), "reading claim %s", key)
	}
	w.origin = origin
	return nil
}

// seeClass finds the wanted StorageClass, and which names of golden claims are taken.
func (o *observer) seeClass(ctx context.Context, w *world) error {
	var classes storagev1.StorageClassList
	if err := o.cache.List(ctx, &classes); err != nil {
		return fmt.Errorf("listing StorageClasses: %w", err)
	}
	w.class = wantedClass(&w.cron.Spec.Template, w.origin, classes.Items)
	if w.desired == nil {
		return nil
	}
	for _, name := range []string{
		golden.ClaimName(w.cron.Spec.ManagedDataSource, w.desired.Digest),
		golden.SecondClaimName(w.cron.Spec.ManagedDataSource, w.desired.Digest, w.class),
	} {
		if w.claim(name) != nil {
			continue
		}
		err := o.cache.Get(ctx, types.NamespacedName{Namespace: w.cron.Namespace, Name: name}, &corev1.PersistentVolumeClaim{})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading claim %s: %w", name, err)
		}
		if err == nil {
			w.taken = append(w.taken, name)
		}
	}
	return nil
}

// seeProfile reads the StorageProfile of the class, when a claim may have to be made. There need
// not be one, nor the kind: then the cache begins to watch it once there is.
func (o *observer) seeProfile(ctx context.Context, w *world) error {
	if w.desired == nil || w.class == "" || w.holder() != nil {
		return nil
	}
	profile := &cdiv1.StorageProfile{}
	err := o.cache.Get(ctx, types.NamespacedName{Name: w.class}, profile)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading StorageProfile %s: %w", w.class, err)
	}
	w.profile = profile
	return nil
}

// seeConfig reads what file systems need, when a claim may have to be made. There need not be a CDIConfig.
func (o *observer) seeConfig(ctx context.Context, w *world) error {
	if w.desired == nil || w.holder() != nil {
		return nil
	}
	config := &cdiv1.CDIConfig{}
	err := o.cache.Get(ctx, types.NamespacedName{Name: claimshape.ConfigName}, config)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading CDIConfig %s: %w", claimshape.ConfigName, err)
	}
	w.config = config
	return nil
}

// seeUsers reads who may use golden claims of a namespace, from the API server itself: what is deleted
// by mistake does not come back. Another namespace has no say: what it names would fill the quota here.
func (o *observer) seeUsers(ctx context.Context, namespace string) (*users, error) {
	var claims corev1.PersistentVolumeClaimList
	var imports v1alpha1.VMDiskImportList
	var pods corev1.PodList
	var sources cdiv1.DataSourceList
	err := errors.Join(
		o.live.List(ctx, &claims, client.InNamespace(namespace)),
		o.live.List(ctx, &imports, client.InNamespace(namespace)),
		o.live.List(ctx, &pods, client.InNamespace(namespace)),
		o.live.List(ctx, &sources, client.InNamespace(namespace)),
	)
	if err != nil {
		return nil, fmt.Errorf("looking for users of golden claims: %w", err)
	}
	return &users{claims: claims.Items, imports: imports.Items, pods: pods.Items, dataSources: sources.Items}, nil
}

// wrap says what failed, if anything did.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
