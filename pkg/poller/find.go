package poller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/imagestream"
)

// find asks the source of a cron.
func (p *poller) find(ctx context.Context, cron *cdiv1.DataImportCron, t task) (finding, error) {
	wanted := ""
	if t == taskComplete {
		wanted = cron.Annotations[golden.AnnotationDesiredDigest]
		if err := golden.CheckDigest(wanted); err != nil {
			return finding{}, hopeless(reasonIllegalDigest, "annotation %s: %s: write the digest of the revision that is to be imported", golden.AnnotationDesiredDigest, err)
		}
	}
	template := cron.Spec.Template.Spec.Source
	if strings.HasPrefix(wanted, golden.PrefixUID) && (template == nil || template.PVC == nil) {
		return finding{}, hopeless(reasonIllegalDigest, "annotation %s names a claim by its UID, and the source of the template is none: write sha256: and 64 hex digits", golden.AnnotationDesiredDigest)
	}
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
	request := HTTPRequest{Access: access, URL: source.HTTP.URL, Fresh: needsFresh(cron)}
	last, published := imported(cron), cron.Annotations[golden.AnnotationChecksumURL]
	// With published checksums, validators say enough only of a state whose checksum was published: the
	// file and its checksums do not change at once.
	told := published == "" || last != nil && last.Digest == checksumDigest(last.Checksum)
	if last != nil && last.Pin != nil && wanted == "" && sameFile(last, source, last.Pin) && told && !request.Fresh {
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
	if sum != "" || !hasValidator(&pin) {
		return revision, nil
	}
	// A state that was met before keeps its name, which may have been written by hand.
	for _, before := range []*golden.Revision{last, polled(cron)} {
		if sameFile(before, source, &pin) {
			revision.Digest = before.Digest
			break
		}
	}
	if checksum != "" && sameFile(last, source, &pin) && last.Checksum != checksum {
		// What was imported was never compared with this one: it is imported once more.
		revision.Digest = checksumDigest(last.Digest + "\n" + checksum)
	}
	if known && published != "" && revision.Checksum == "" {
		revision.Checksum = last.Checksum // the published one, which 304 spares us to ask for again
	}
	return revision, nil
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
