package poller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/imagestream"
)

// pollTimeout bounds one poll: a source that takes longer is asked again later, and does not keep
// the polls of others waiting.
const pollTimeout = time.Minute

// work runs polls until ctx ends.
func (p *poller) work(ctx context.Context) {
	for {
		j, ok := p.queue.next(ctx)
		if !ok {
			return
		}
		p.run(ctx, j)
	}
}

// run makes one poll and leaves its outcome for the reconciler.
func (p *poller) run(ctx context.Context, j job) {
	defer p.wake(ctx, j.key)
	defer p.queue.done(j)
	o := p.poll(ctx, j)
	p.memory.change(j.key, j.uid, func(e *entry) { e.busy, e.outcome = false, o })
}

// poll looks again whether the poll is due, which may be long after it was queued, and makes it.
// nil means that there is nothing to record.
func (p *poller) poll(ctx context.Context, j job) *outcome {
	cron := &cdiv1.DataImportCron{}
	if err := p.client.Get(ctx, j.key, cron); err != nil || cron.UID != j.uid || !cron.DeletionTimestamp.IsZero() {
		return nil // the reconciler sees the same
	}
	known, _ := p.memory.of(cron)
	at := p.clock.Now()
	due := decide(cron, at, known.next)
	if due.task == taskNone || hostOf(cron.Spec.Template.Spec.Source) != j.host || known.stale(cron) {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	found, err := p.find(limited, cron, due.task)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		found.revision, found.failure = nil, classify(err)
	}
	return conclude(cron, due.task, found, at)
}

// find asks the source of a cron.
func (p *poller) find(ctx context.Context, cron *cdiv1.DataImportCron, t task) (finding, error) {
	wanted := ""
	if t == taskComplete {
		wanted = byHand(cron)
		if err := golden.CheckDigest(wanted); err != nil {
			return finding{}, hopeless(reasonIllegalDigest, "annotation %s: %s: write the digest of the revision that is to be imported", golden.AnnotationDesiredDigest, err)
		}
	}
	template := cron.Spec.Template.Spec.Source
	if template != nil && template.PVC != nil {
		revision, err := p.findClaim(ctx, cron, template.PVC)
		return finding{revision: revision}, errors.Join(err, matches(revision, wanted))
	}
	image := ""
	if template != nil && template.Registry != nil && valueOf(template.Registry.ImageStream) != "" {
		var err error
		if image, err = imagestream.Find(ctx, p.live, cron.Namespace, valueOf(template.Registry.ImageStream)); err != nil {
			return finding{}, err
		}
	}
	source, err := diskSource(template, image)
	if err != nil {
		return finding{}, err
	}
	if source.HTTP != nil {
		revision, err := p.findFile(ctx, cron, source, wanted)
		return finding{revision: revision}, err
	}
	revision, err := p.findImage(ctx, cron, source, image, wanted)
	return finding{revision: revision, image: image}, err
}

// matches reports that a source is not what was written by hand.
func matches(revision *golden.Revision, wanted string) error {
	if revision == nil || wanted == "" || revision.Digest == wanted {
		return nil
	}
	return hopeless(reasonIllegalDigest, "annotation %s asks for %s, and the source is %s: write that, or remove the annotation",
		golden.AnnotationDesiredDigest, shortDigest(wanted), revision.Digest)
}

// findFile asks a web server, and whoever publishes checksums. The request is conditional on what
// was imported last, never on what was only polled: an import that fails must not hide an update.
func (p *poller) findFile(ctx context.Context, cron *cdiv1.DataImportCron, source *v1alpha1.DiskSource, wanted string) (*golden.Revision, error) {
	checksum := cron.Spec.Template.Spec.Source.HTTP.Checksum
	if err := checkChecksum(checksum); err != nil {
		return nil, err
	}
	access, err := p.access(ctx, cron.Namespace, source)
	if err != nil {
		return nil, err
	}
	request := HTTPRequest{Access: access, URL: source.HTTP.URL}
	last, published := imported(cron), cron.Annotations[golden.AnnotationChecksumURL]
	if last != nil && last.Pin != nil && wanted == "" && sameFile(last, source, last.Pin) && (published == "" || last.Checksum != "") {
		request.Known = *last.Pin
	}
	found, err := p.prober.ProbeHTTP(ctx, request)
	if err != nil {
		return nil, err
	}
	pin := bounded(found.Pin)
	if found.NotModified {
		pin = request.Known
	}
	if wanted != "" {
		return &golden.Revision{Digest: wanted, Source: *source, Checksum: checksum, Pin: &pin}, nil
	}
	known := hasValidator(&pin) && pin == request.Known
	sum := ""
	if published != "" && !known {
		if sum, err = p.publishedChecksum(ctx, access, published, source.HTTP.URL); err != nil {
			return nil, err
		}
	}
	revision, err := fileRevision(source, pin, sum, checksum)
	if err != nil {
		return nil, err
	}
	return keepDigest(revision, sum, last, polled(cron)), nil
}

// keepDigest has a state that was met before keep its name, which may have been written by hand or
// be a published checksum.
func keepDigest(revision *golden.Revision, published string, before ...*golden.Revision) *golden.Revision {
	for _, b := range before {
		if published == "" && hasValidator(revision.Pin) && sameFile(b, &revision.Source, revision.Pin) {
			revision.Digest = b.Digest
			if revision.Checksum == "" {
				revision.Checksum = b.Checksum
			}
			return revision
		}
	}
	return revision
}

// publishedChecksum asks for the checksum of a file. Secrets go along only to the server that they
// are for.
func (p *poller) publishedChecksum(ctx context.Context, access Access, where, file string) (string, error) {
	if err := checkURL(where); err != nil {
		return "", hopeless(reasonIllegalSource, "annotation %s: %s", golden.AnnotationChecksumURL, err)
	}
	if !sameServer(where, file) {
		access.Secret = nil
	}
	sum, err := p.prober.PublishedChecksum(ctx, HTTPRequest{Access: access, URL: where}, fileName(file))
	if err != nil {
		f := *classify(err)
		f.message = fmt.Sprintf("reading the checksums that annotation %s names: %s", golden.AnnotationChecksumURL, f.message)
		return "", &f
	}
	return sum, nil
}

// findImage asks a registry. A digest that was written by hand, or that an image stream tells, names
// the image already.
func (p *poller) findImage(ctx context.Context, cron *cdiv1.DataImportCron, source *v1alpha1.DiskSource, image, wanted string) (*golden.Revision, error) {
	if wanted == "" && image != "" {
		wanted = digestOf(image)
	}
	if wanted != "" {
		return checked(imageRevision(source, wanted, ""))
	}
	access, err := p.access(ctx, cron.Namespace, source)
	if err != nil {
		return nil, err
	}
	request := ImageRequest{Access: access, Reference: source.Registry.URL, Platform: platformOf(source)}
	if last := imported(cron); last != nil && last.Source.Registry != nil && nameOf(last.Source.Registry.URL) == nameOf(source.Registry.URL) &&
		platformOf(&last.Source) == request.Platform {
		request.KnownDigest, request.KnownIndex = last.Digest, last.Index
	}
	found, err := p.prober.ProbeImage(ctx, request)
	if err != nil {
		return nil, err
	}
	return checked(imageRevision(source, found.Digest, found.Index))
}

// checked refuses an image that cannot be named by sha256.
func checked(revision *golden.Revision) (*golden.Revision, error) {
	if err := golden.CheckDigest(revision.Digest); err != nil {
		return nil, hopeless(reasonIllegalDigest, "the image cannot be named: %s", err)
	}
	return revision, nil
}

// access reads the Secrets and certificates that a source names, in the cron's own namespace.
func (p *poller) access(ctx context.Context, namespace string, source *v1alpha1.DiskSource) (Access, error) {
	read, err := credentials.Read(ctx, p.live, namespace, source)
	if err != nil {
		return Access{}, err
	}
	access := Access{Secret: read.Secret}
	if read.CA != nil {
		access.CAs = map[string][]byte{}
		for name, pem := range read.CA.Data {
			access.CAs[name] = []byte(pem)
		}
		for name, pem := range read.CA.BinaryData {
			access.CAs[name] = pem
		}
	}
	return access, nil
}

// wake has the reconciler look at a cron.
func (p *poller) wake(ctx context.Context, key types.NamespacedName) {
	cron := &cdiv1.DataImportCron{}
	cron.Namespace, cron.Name = key.Namespace, key.Name
	select {
	case p.finished <- event.GenericEvent{Object: cron}:
	case <-ctx.Done():
	}
}
