// Package grant tells whether claims of one namespace may be filled with copies of what another
// namespace holds. The owner of that other namespace allows it with a ReferenceGrant, or with the
// permission that KubeVirt's users know from CDI: to create datavolumes/source there.
package grant
