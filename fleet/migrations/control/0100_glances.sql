-- What is asked of all boxes at once, narrow beside the wide rows of `devices`: a hundred thousand boxes are counted and
-- filtered without reading one document. Triggers keep both tables; nothing else writes them.

create table device_glances (
    device         text    primary key,
    site           text    not null,
    presence       text    not null,
    presence_since bigint  not null,
    -- Accepted, and not revoked.
    member         boolean not null,
    -- Some slot answers.
    answers        boolean not null,
    -- Some slot cannot have its wish, or the box refuses its order.
    fails          boolean not null
) without rowid;

create table device_slots (
    device text    not null,
    slot   text    not null,
    site   text    not null,
    member boolean not null,
    -- Its phase's word.
    phase  text    not null,
    -- What answers; null where nothing does.
    bundle text,
    path   text,
    model  text,
    -- Model of what it can go back to.
    former text,
    primary key (device, slot)
) without rowid;
-- `member` first: a look at one device must not begin here.
create index device_slots_by_bundle on device_slots (member, bundle, path, site);

-- Not "or replace" nor "or ignore": within an upsert that means what the upsert says, and fails.
create trigger glance_at_device after update of site, presence, presence_since, state on devices begin
    delete from device_glances where device = new.id;
    insert into device_glances
        select new.id, new.site, new.presence, new.presence_since,
            exists (select 1 from identities where device = new.id and state in ('active', 'quarantined')),
            exists (select 1 from json_each(new.state, '$.slots') where json_extract(value, '$.current') is not null),
            json_extract(new.state, '$.refusal') is not null
                or exists (select 1 from json_each(new.state, '$.slots')
                           where json_extract(value, '$.phase.is') in ('failed', 'stopped'));
end;

create trigger glance_at_slots after update of site, state on devices begin
    delete from device_slots where device = new.id;
    insert into device_slots
        select new.id, json_extract(value, '$.slot'), new.site,
            exists (select 1 from identities where device = new.id and state in ('active', 'quarantined')),
            json_extract(value, '$.phase.is'),
            json_extract(value, '$.current.bundle.sha256'),
            json_extract(value, '$.current.bundle.path'),
            -- bundles/<model>/…
            substr(json_extract(value, '$.current.bundle.path'), 9,
                instr(substr(json_extract(value, '$.current.bundle.path'), 9), '/') - 1),
            substr(json_extract(value, '$.previous.path'), 9,
                instr(substr(json_extract(value, '$.previous.path'), 9), '/') - 1)
        from json_each(new.state, '$.slots')
        -- What a box says twice counts once: no trigger may ever refuse what it says.
        group by json_extract(value, '$.slot');
end;

create trigger glance_at_new_device after insert on devices begin
    update devices set site = site where id = new.id;
end;

create trigger glance_at_gone_device after delete on devices begin
    delete from device_glances where device = old.id;
    delete from device_slots where device = old.id;
end;

create trigger glance_at_new_member after insert on identities begin
    update device_glances set member = new.state in ('active', 'quarantined') where device = new.device;
    update device_slots set member = new.state in ('active', 'quarantined') where device = new.device;
end;

create trigger glance_at_member after update of state on identities begin
    update device_glances set member = new.state in ('active', 'quarantined') where device = new.device;
    update device_slots set member = new.state in ('active', 'quarantined') where device = new.device;
end;

-- Those that are there already.
update devices set site = site;
