with source as (
    {{ nextmove.read_raw('crm_contacts', {
        'contact_id': 'text',
        'account_id': 'text',
        'owner_rep_id': 'text',
        'email': 'text',
        'phone': 'text',
        'first_name': 'text',
        'last_name': 'text',
        'time_zone': 'text',
        'country': 'text',
        'region': 'text',
        'lifecycle_stage': 'text',
        'tier': 'text',
        'created_at': 'timestamp',
        'updated_at': 'timestamp'
    }, optional=[
        'account_id', 'owner_rep_id', 'phone', 'first_name', 'last_name', 'time_zone',
        'country', 'region', 'lifecycle_stage', 'tier', 'updated_at'
    ]) }}
),

renamed as (
    select
        {{ nextmove.clean_id('contact_id') }} as contact_id,
        account_id,
        owner_rep_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_phone('phone') }} as phone,
        first_name,
        last_name,
        time_zone,
        country,
        region,
        lifecycle_stage,
        tier,
        created_at,
        coalesce(updated_at, created_at) as updated_at
    from source
)

select * from renamed
