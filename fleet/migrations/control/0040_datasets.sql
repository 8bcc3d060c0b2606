-- Versions of datasets by the digest of their manifest. Their files and profiles are content of their own.

create table dataset_versions (
    name     text not null,
    sha256   text not null,
    number   bigint not null,
    added    bigint not null,
    document text not null,
    primary key (name, sha256)
);

create unique index dataset_versions_by_number on dataset_versions (name, number);

-- What each run was trained on.
create table run_datasets (
    run    text not null,
    name   text not null,
    sha256 text not null,
    primary key (run, name, sha256)
);

create index run_datasets_of on run_datasets (name, sha256, run);
