with source as (
    {{ nextmove.read_raw('crm_reps', {
        'rep_id': 'text',
        'name': 'text',
        'email': 'text',
        'is_available': 'boolean',
        'capacity_per_day': 'integer'
    }, optional=['name', 'email', 'capacity_per_day']) }}
),

renamed as (
    select
        rep_id,
        name as rep_name,
        {{ nextmove.clean_email('email') }} as email,
        is_available,
        capacity_per_day
    from source
)

select * from renamed
