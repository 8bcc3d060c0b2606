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

create view device_members as
    select device from identities where state in ('active', 'quarantined');

create view device_glances_now as
    select devices.id as device, site, presence, presence_since,
        exists (select 1 from device_members where device_members.device = devices.id) as member,
        exists (select 1 from json_each(devices.state, '$.slots') where json_extract(value, '$.current') is not null) as answers,
        json_extract(devices.state, '$.refusal') is not null
            or exists (select 1 from json_each(devices.state, '$.slots')
                       where json_extract(value, '$.phase.is') in ('failed', 'stopped')) as fails
    from devices;

create view device_slots_now as
    select devices.id as device, json_extract(value, '$.slot') as slot, site,
        exists (select 1 from device_members where device_members.device = devices.id) as member,
        json_extract(value, '$.phase.is') as phase,
        json_extract(value, '$.current.bundle.sha256') as bundle,
        json_extract(value, '$.current.bundle.path') as path,
        -- bundles/<model>/…
        substr(json_extract(value, '$.current.bundle.path'), 9,
            instr(substr(json_extract(value, '$.current.bundle.path'), 9), '/') - 1) as model,
        substr(json_extract(value, '$.previous.path'), 9,
            instr(substr(json_extract(value, '$.previous.path'), 9), '/') - 1) as former
    from devices, json_each(devices.state, '$.slots');

insert into device_glances select * from device_glances_now;
insert or ignore into device_slots select * from device_slots_now;

create trigger glance_at_new_device after insert on devices begin
    insert into device_glances select * from device_glances_now where device = new.id;
end;

create trigger glance_at_device after update of site, presence, presence_since, state on devices
    when (new.site, new.presence, new.presence_since, new.state) is not (old.site, old.presence, old.presence_since, old.state)
begin
    insert or replace into device_glances select * from device_glances_now where device = new.id;
end;

create trigger glance_at_slots after update of site, state on devices
    when (new.site, new.state) is not (old.site, old.state)
begin
    delete from device_slots where device = new.id;
    insert or ignore into device_slots select * from device_slots_now where device = new.id;
end;

create trigger glance_at_new_member after insert on identities begin
    update device_glances set member = new.state in ('active', 'quarantined') where device = new.device;
    update device_slots set member = new.state in ('active', 'quarantined') where device = new.device;
end;

create trigger glance_at_member after update of state on identities when new.state is not old.state begin
    update device_glances set member = new.state in ('active', 'quarantined') where device = new.device;
    update device_slots set member = new.state in ('active', 'quarantined') where device = new.device;
end;

create trigger glance_at_gone_device after delete on devices begin
    delete from device_glances where device = old.id;
    delete from device_slots where device = old.id;
end;
