// Package claimshape says what volume a DataVolume, or the template of a DataImportCron, asks for: its
// StorageClass, access modes, volume mode and size. The rules are those of CDI.
package claimshape
