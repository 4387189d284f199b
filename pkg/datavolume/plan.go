package datavolume

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// plan is what is done about a DataVolume, in this order: each write leads on from wherever the ones before
// it have come.
type plan struct {
	// change are objects that are brought from one state to another, and create those that are missing.
	change []change
	create []client.Object
	// remove are objects that have done their work.
	remove []client.Object
	// trouble is why it does not get on; nil when it does.
	trouble *trouble
}

type change struct{ from, to client.Object }

// decide says what is done next.
func decide(v *view) *plan {
	p := &plan{}
	switch {
	case v.claim == nil:
		p.makeClaim(v)
	case !v.claim.DeletionTimestamp.IsZero():
		p.trouble = leaving("PersistentVolumeClaim", v.claim.Name)
	case v.isForeign():
		p.trouble = inTheWay(v.claim)
	case !v.owned(v.claim):
		adopted := v.claim.DeepCopy()
		adopted.OwnerReferences = append(adopted.OwnerReferences, ownedBy(v.volume)...)
		p.change = append(p.change, change{v.claim, adopted})
	default:
		p.keep(v)
	}
	return p
}

// makeClaim makes the claim, and first what it refers to.
func (p *plan) makeClaim(v *view) {
	switch _, others := v.volume.Annotations[annotationPrePopulated]; {
	case others:
		p.trouble = &trouble{reason: reasonNotFound, message: messageNoClaim + ": annotation " + annotationPrePopulated + " says that somebody else makes it", silent: true}
		return
	case v.class == nil:
		p.trouble = noClass(v.className)
		return
	case needsSource(v.volume) && v.origin.source == nil:
		p.trouble = v.origin.waiting
		return
	}
	claim, missing := claimFor(v)
	if missing != nil {
		p.trouble = missing
		return
	}
	p.refer(v, claim)
	if p.trouble == nil {
		p.create = append(p.create, claim)
	}
}

// keep keeps what the claim refers to until the disk is on its volume.
func (p *plan) keep(v *view) {
	if outcomeOf(v).phase != cdiv1.Succeeded {
		p.refer(v, v.claim)
		return
	}
	// A DataSource keeps the golden claim that it names.
	if v.source != nil && v.owned(v.source) && v.source.DeletionTimestamp.IsZero() {
		p.remove = append(p.remove, v.source)
	}
}

// refer makes what a claim refers to, and takes back edits of it.
func (p *plan) refer(v *view, claim *corev1.PersistentVolumeClaim) {
	if v.isAdopted() {
		return // it refers to what it did before
	}
	switch {
	case fetches(v.volume):
		p.wantImage(v, claim)
	case needsSource(v.volume):
		p.wantSource(v)
	}
}

func (p *plan) wantImage(v *view, claim *corev1.PersistentVolumeClaim) {
	wanted := imageFor(v.volume, claim, v.overhead())
	switch {
	case v.image == nil:
		p.create = append(p.create, wanted)
	case !v.owned(v.image):
		p.trouble = taken("VMDiskImage", v.image.Name)
	case !v.image.DeletionTimestamp.IsZero():
		p.trouble = leaving("VMDiskImage", v.image.Name)
	case !equality.Semantic.DeepEqual(v.image.Spec, wanted.Spec):
		edited := v.image.DeepCopy()
		edited.Spec = wanted.Spec
		p.change = append(p.change, change{v.image, edited})
	}
}

func (p *plan) wantSource(v *view) {
	switch {
	case v.source != nil && !v.owned(v.source):
		p.trouble = taken("DataSource", v.source.Name)
		return
	case v.source != nil && !v.source.DeletionTimestamp.IsZero():
		p.trouble = leaving("DataSource", v.source.Name)
		return
	case v.origin == nil || v.origin.source == nil:
		return // what is copied is settled, or not known yet
	}
	wanted := sourceFor(v.volume, v.origin.source)
	switch {
	case v.source == nil:
		p.create = append(p.create, wanted)
	case !equality.Semantic.DeepEqual(v.source.Spec, wanted.Spec):
		edited := v.source.DeepCopy()
		edited.Spec = wanted.Spec
		p.change = append(p.change, change{v.source, edited})
	}
}
