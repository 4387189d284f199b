// Package roller keeps golden claims fresh: the revision that a DataImportCron should have
// becomes a golden claim, and once that is filled and verified the DataSource names it.
//
// One reconcile reads the world of a cron (observe.go), decides what is to be done next
// (plan.go, pure) and does it (act.go), always in this order: claims that lead nowhere are
// dropped, a claim is made or marked verified, the DataSource is repointed, the cron's status
// is recorded, and what nobody needs is pruned. Each step is decided only once the one before
// it is seen to be done, so a crash between any two of them repairs itself.
package roller
