package main

// The descriptions are those of CDI's Go types. Where these have none, speak of what CDI does
// and Gild does not, or leave out what a user must know, ours stand here. The API server allows
// none for the metadata of an object.

func cronWords() []change {
	texts := conditionWords("status.conditions")
	texts = append(texts, conditionWords("spec.template.status.conditions")...)
	texts = append(texts, imageWords("spec.template.spec.source")...)
	return append(texts,
		words("", "DataImportCron keeps a golden image fresh: it polls a source on a schedule, imports each new revision into a claim of its own, and then lets a DataSource name that claim."),
		words("spec", "spec says what is polled, when, and what is made of it. It may be edited."),
		words("spec.schedule", "schedule says when the source is polled: five fields (minute, hour, day of month, month, day of week) such as \"30 1 * * 1\", or one of @hourly, @daily, @weekly, @monthly, @yearly and @every DURATION. The time zone is UTC, or the one in a prefix such as \"CRON_TZ=Europe/Vienna \". The first poll is at once. With an empty schedule there is none: set the annotation cdi.kubevirt.io/storage.import.sourceDesiredDigest to import a revision."),
		words("spec.garbageCollect", "garbageCollect says whether old claims are deleted after an import: Outdated deletes all but the importsToKeep newest by use, Never deletes none. The default is Outdated."),
		words("spec.importsToKeep", "importsToKeep is how many claims are kept, the current one included: at least 1. The default is 3."),
		words("spec.managedDataSource", "managedDataSource is the name of the DataSource, in the same namespace, that names the current claim. It is made when there is none, and left alone when it belongs to someone else. The claims are named after it."),
		words("spec.retentionPolicy", "retentionPolicy says what becomes of the claims and the DataSource when the DataImportCron is deleted: All keeps them, None deletes them too. The default is All."),
		words("spec.serviceAccountName", "serviceAccountName is the service account that must be allowed to read a claim that is the source in another namespace. The default is \"default\"."),
		words("spec.template", "template says where the image comes from and what claim it is imported into. Its metadata is not used."),
		words("spec.template.metadata", "metadata is kept but not used: claims take their labels from the DataImportCron."),
		words("spec.template.metadata.annotations", "annotations are kept but not used."),
		words("spec.template.metadata.finalizers", "finalizers are kept but not used."),
		words("spec.template.metadata.labels", "labels are kept but not used."),
		words("spec.template.metadata.name", "name is kept but not used."),
		words("spec.template.metadata.namespace", "namespace is kept but not used."),
		words("spec.template.status", "status is kept but not used."),
		words("spec.template.status.conditions", "conditions are kept but not used."),
		words("spec.template.spec.source", "source is where the image comes from: exactly one of http, registry and pvc."),
		words("spec.template.spec.source.pvc", "pvc copies a claim whenever another one has its name."),
		words("spec.template.spec.pvc", "pvc is the spec of the claims, as it is. Exactly one of pvc and storage is needed."),
		words("spec.template.spec.storage", "storage is the spec of the claims, whose size is enlarged by what a file system needs, and whose access modes and volume mode come from the StorageProfile of the StorageClass when they are not said. Exactly one of pvc and storage is needed."),
		words("status", "status tells what has been polled and imported. Annotations of the object hold the rest."),
		words("status.conditions", "conditions: SourcePolled says how the last poll went, Progressing whether an import goes on, UpToDate whether the newest revision is imported."),
		words("status.currentImports", "currentImports holds the newest import, whether it goes on or is done."),
		words("status.currentImports.[].DataVolumeName", "DataVolumeName is the name of the claim that is imported into."),
		words("status.currentImports.[].Digest", "Digest of the revision that is imported."),
		words("status.lastImportedPVC", "lastImportedPVC is the claim that holds the newest import that succeeded."),
	)
}

// imageWords are those of images that are fetched.
func imageWords(path string) []change {
	return []change{
		words(path+".http.url", "url of the image, beginning with http:// or https://. A user name or password does not belong in it: use secretRef."),
		words(path+".http.secretRef", "secretRef names a Secret in this namespace with the credentials: accessKeyId and secretKey (or username and password) for basic authentication, or token for a bearer token."),
		words(path+".http.certConfigMap", "certConfigMap names a ConfigMap in this namespace whose values are PEM certificates to trust besides the system's own."),
		words(path+".http.checksum", "checksum of the image as it is served: sha256: and 64, or sha512: and 128 lower-case hex digits. An image with another checksum is refused."),
		words(path+".registry.url", "url of the image: docker://host/name[:tag][@digest]. Without tag and digest the tag is latest. A user name or password does not belong in it: use secretRef."),
		words(path+".registry.imageStream", "imageStream names an OpenShift ImageStream in this namespace, as name or name:tag. Only with pullMethod node."),
		words(path+".registry.pullMethod", "pullMethod says who pulls the image: pod (the importer) or node (the kubelet). The default is pod."),
		words(path+".registry.secretRef", "secretRef names a Secret in this namespace with the credentials: one of type kubernetes.io/dockerconfigjson, or accessKeyId and secretKey (or username and password)."),
		words(path+".registry.certConfigMap", "certConfigMap names a ConfigMap in this namespace whose values are PEM certificates to trust besides the system's own. With pullMethod node only the poll of a DataImportCron trusts them; the kubelet trusts what its node trusts."),
		words(path+".registry.platform.architecture", "architecture chooses among the images of an index, such as amd64 or arm64. The default is that of the node that imports."),
	}
}

func volumeKindWords() []change {
	texts := append(conditionWords("status.conditions"), imageWords("spec.source")...)
	for _, source := range []string{"s3", "gcs", "upload", "imageio", "vddk"} {
		texts = append(texts, words("spec.source."+source, source+" is not supported, and refused."))
	}
	return append(texts,
		words("", "DataVolume is a claim with a disk in it: Gild makes the claim of its name, has it filled, and tells here how far that is."),
		words("spec", "spec says where the disk comes from and what volume it gets. It cannot be changed."),
		words("spec.source", "source is where the disk comes from: exactly one of http, registry, pvc, snapshot and blank. Exactly one of source and sourceRef is needed."),
		words("spec.source.http", "http is an image on a web server."),
		words("spec.source.registry", "registry is an image in an OCI registry."),
		words("spec.source.pvc", "pvc is a claim that is copied. In another namespace its owner must allow that."),
		words("spec.source.snapshot", "snapshot is a VolumeSnapshot that is copied. In another namespace its owner must allow that."),
		words("spec.source.blank", "blank is a disk of nothing but zeros."),
		words("spec.sourceRef", "sourceRef names a DataSource: what it leads to when the copy begins is copied."),
		words("spec.sourceRef.kind", "kind is DataSource."),
		words("spec.sourceRef.name", "name of the DataSource."),
		words("spec.sourceRef.namespace", "namespace of the DataSource. The default is that of the DataVolume."),
		words("spec.pvc", "pvc is the spec of the claim, as it is. Exactly one of pvc and storage is needed."),
		words("spec.storage", "storage is the spec of the claim, whose size is enlarged by what a file system needs, and whose access modes and volume mode come from the StorageProfile of the StorageClass when they are not said. A copy has the size of what is copied when none is said. Exactly one of pvc and storage is needed."),
		words("spec.contentType", "contentType is kubevirt: a disk."),
		words("spec.preallocation", "preallocation is kept but not used: the storage decides."),
		words("spec.priorityClassName", "priorityClassName is kept but not used: the operator of Gild sets that of all importers."),
		words("spec.serviceAccountName", "serviceAccountName is kept but not used: importers have no token."),
		words("spec.checkpoints", "checkpoints are not supported, and refused."),
		words("spec.finalCheckpoint", "finalCheckpoint is not supported, and refused."),
		words("status", "status tells how far the claim is filled. Its VMDiskImport tells more."),
		words("status.phase", "phase sums it up in one word. PendingPopulation waits for the first consumer of the claim, Succeeded has the whole disk, Failed has given up."),
		words("status.progress", "progress in percent, or N/A."),
		words("status.restartCount", "restartCount is how often the import was tried again."),
		words("status.claimName", "claimName is the name of the claim."),
		words("status.conditions", "conditions: Bound says whether the claim is, Running whether the disk is on its way, Ready whether it is there."),
	)
}

func configWords() []change {
	return []change{
		words("", "CDIConfig says what file systems need. There is one, named config, which Gild keeps: KubeVirt reads it."),
		words("spec", "spec is the operator's. Gild uses filesystemOverhead."),
		words("status", "status is what holds: filesystemOverhead for each StorageClass."),
	}
}

func installWords() []change {
	return []change{
		words("", "CDI is an installation of KubeVirt's CDI. KubeVirt waits for this kind. Do not create one: it would tell Gild to leave all kinds of cdi.kubevirt.io to CDI."),
		hollow("spec", "spec is read by nobody."),
		hollow("status", "status is read by nobody."),
	}
}

func sourceWords() []change {
	return append(conditionWords("status.conditions"),
		words("", "DataSource is a name for the newest claim of a golden image."),
		words("spec", "spec says which claim, snapshot or other DataSource this one stands for."),
		words("spec.source", "source is what this DataSource stands for: at most one of pvc, snapshot and dataSource."),
		words("status", "status tells whether it can be used."),
		words("status.source", "source is the claim or snapshot that this DataSource leads to; empty while it is not ready."),
		words("status.conditions", "conditions: Ready says whether the source can be used."),
	)
}

func profileWords() []change {
	return append(conditionWords("status.conditions"),
		words("", "StorageProfile says which access modes and volume mode suit the StorageClass of its name."),
		words("status.conditions", "conditions: Recognized says whether Gild knows the provisioner."),
	)
}

func conditionWords(path string) []change {
	return []change{
		words(path+".[].status", "status of the condition: True, False or Unknown."),
		words(path+".[].reason", "reason of the status in one word."),
		words(path+".[].message", "message tells more, for people."),
		words(path+".[].lastTransitionTime", "lastTransitionTime is when the status changed last."),
		words(path+".[].lastHeartbeatTime", "lastHeartbeatTime is when the status, reason or message changed last."),
	}
}
