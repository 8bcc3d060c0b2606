-- Who may do what: people, the projects that sites and models belong to, who is what where, and how people prove who they are.
-- Of every secret only what cannot be turned back into it is here.

create table people (
    name     text primary key,
    display  text    not null,
    password text,
    issuer   text,
    subject  text,
    disabled boolean not null,
    made     bigint  not null,
    made_by  text    not null
);
create unique index people_by_subject on people (issuer, subject);

-- What is not assigned belongs to the project 'default', which always is.
create table projects (
    name    text primary key,
    made    bigint not null,
    made_by text   not null
);

create table project_sites (
    site    text primary key,
    project text not null references projects (name)
);

create table project_models (
    model   text primary key,
    project text not null references projects (name)
);

create table memberships (
    person  text not null references people (name),
    project text not null references projects (name),
    role    text not null,
    primary key (person, project)
);

create table tokens (
    id      text primary key,
    digest  text    not null,
    person  text    not null references people (name),
    label   text    not null,
    project text,
    role    text    not null,
    models  text    not null,
    made    bigint  not null,
    expires bigint  not null,
    used    bigint,
    revoked bigint
);
create index tokens_by_person on tokens (person, made, id);
create index tokens_by_time on tokens (made, id);
create index tokens_by_expiry on tokens (expires);

create table sessions (
    id      text primary key,
    digest  text    not null unique,
    person  text    not null references people (name),
    made    bigint  not null,
    seen    bigint  not null,
    agent   text    not null
);
create index sessions_by_person on sessions (person, made, id);
create index sessions_by_time on sessions (made);

-- The one link that makes the first administrator.
create table setup_links (
    digest  text primary key,
    expires bigint not null
);

insert into projects (name, made, made_by) values ('default', 0, 'fleet');
