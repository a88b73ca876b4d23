-- Those tables of grype's vulnerability database, version 6, that get rows; grype makes the others when it takes it in.
CREATE TABLE blobs (id integer PRIMARY KEY, value text NOT NULL);
CREATE TABLE db_metadata (
  build_timestamp datetime NOT NULL, model integer NOT NULL, revision integer NOT NULL, addition integer NOT NULL
);
CREATE TABLE providers (id text PRIMARY KEY, version text, processor text, date_captured datetime, input_digest text);
CREATE TABLE vulnerability_handles (
  id integer PRIMARY KEY, name text NOT NULL, status text NOT NULL, published_date datetime, modified_date datetime,
  withdrawn_date datetime, provider_id text NOT NULL, blob_id integer
);
CREATE TABLE vulnerability_aliases (name text, alias text NOT NULL, PRIMARY KEY (name, alias));
CREATE TABLE packages (id integer PRIMARY KEY, ecosystem text, name text, UNIQUE (ecosystem, name));
CREATE TABLE affected_package_handles (
  id integer PRIMARY KEY, vulnerability_id integer NOT NULL, operating_system_id integer, package_id integer,
  blob_id integer
);
