-- Whose each dataset is, and which versions hold a content, so that a file is only for those whose dataset has it.

create table project_datasets (
    dataset text primary key,
    project text not null references projects (name)
);

create table dataset_content (
    sha256  text not null,
    name    text not null,
    version text not null,
    primary key (sha256, name, version)
);

insert into dataset_content (sha256, name, version)
select distinct json_extract(file.value, '$.sha256'), name, sha256
from dataset_versions, json_each(document, '$.manifest.files') as file
union
select json_extract(document, '$.profile'), name, sha256 from dataset_versions;
