// Package datasource says of each DataSource whether what it names can be used: the condition
// Ready and the resolved source in its status, with CDI's words. A claim counts once it holds its
// disk, which a claim that is bound need not do yet.
package datasource
