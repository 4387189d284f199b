package golden

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// maxRevision bounds the JSON of a revision, in bytes: annotations have 256 KiB in all.
const maxRevision = 64 << 10

// Revision is one state of a source, as a poll has found it, and how to import exactly that.
type Revision struct {
	// Digest names the revision: sha256: and 64 hex digits, or uid: and the UID of a claim.
	// It is that of the image in a registry, or of the validators of a file (see
	// ValidatorDigest), unless its publisher tells the digest of the bytes.
	Digest string `json:"digest"`
	// Index is the digest of the index that led to the image, when there is one: while it
	// stays, so does the image.
	Index string `json:"index,omitempty"`
	// Source is where the bytes are fetched; an image in a registry is named by its digest.
	// Empty when Claim is set.
	Source v1alpha1.DiskSource `json:"source,omitzero"`
	// Checksum is of the bytes as served, when the user or the publisher tells it.
	Checksum string `json:"checksum,omitempty"`
	// Pin is the only state of a file that may be imported.
	Pin *v1alpha1.Pin `json:"pin,omitempty"`
	// Claim is the claim to copy, when that is the source.
	Claim *Claim `json:"claim,omitempty"`
}

// Claim names one claim for good.
type Claim struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
}

// String is the JSON that ParseRevision reads.
func (r *Revision) String() string {
	text, _ := json.Marshal(r) // strings and numbers always marshal
	return string(text)
}

// ParseRevision reads the JSON of an annotation. Anyone who may edit the object may have
// written it, so it is checked.
func ParseRevision(text string) (*Revision, error) {
	if text == "" {
		return nil, errors.New("reading the revision: there is none")
	}
	if len(text) > maxRevision {
		return nil, fmt.Errorf("reading the revision: it has %d bytes, more than %d", len(text), maxRevision)
	}
	r := &Revision{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, fmt.Errorf("reading the revision: %w", err)
	}
	return r, CheckDigest(r.Digest)
}

// CheckDigest reports what is wrong with a digest that should name a revision.
func CheckDigest(digest string) error {
	prefix, digits, _ := strings.Cut(digest, ":")
	switch prefix + ":" {
	case PrefixSHA256:
		if raw, err := hex.DecodeString(digits); err != nil || len(raw) != sha256.Size || digits != strings.ToLower(digits) {
			return fmt.Errorf("digest %.80q is not sha256: and 64 lower-case hex digits", digest)
		}
	case PrefixUID:
		// It stands in the names of claims.
		if len(digits) < nameDigits || len(validation.IsDNS1123Label(digits)) > 0 || strings.HasSuffix(digits[:nameDigits], "-") {
			return fmt.Errorf("digest %.80q is not uid: and the UID of a claim", digest)
		}
	default:
		return fmt.Errorf("digest %.80q begins with neither %s nor %s", digest, PrefixSHA256, PrefixUID)
	}
	return nil
}

// ValidatorDigest names a state of a file whose publisher tells no digest: by its URL and
// the validators that the server gave, so that a return to an earlier state is seen as one.
func ValidatorDigest(url string, pin *v1alpha1.Pin) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{url, pin.ETag, pin.LastModified, strconv.FormatInt(pin.Length, 10)}, "\n")))
	return PrefixSHA256 + hex.EncodeToString(sum[:])
}
