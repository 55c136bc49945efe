with source as (
    {{ nextmove.read_raw('form_submissions', {
        'form_id': 'text',
        'email': 'text',
        'phone': 'text',
        'anonymous_id': 'text',
        'form_name': 'text',
        'submitted_at': 'timestamp'
    }, optional=['email', 'phone', 'anonymous_id', 'form_name']) }}
),

renamed as (
    select
        form_id,
        {{ nextmove.clean_email('email') }} as email,
        {{ nextmove.clean_phone('phone') }} as phone,
        {{ nextmove.clean_id('anonymous_id') }} as anonymous_id,
        form_name,
        submitted_at
    from source
)

select * from renamed
