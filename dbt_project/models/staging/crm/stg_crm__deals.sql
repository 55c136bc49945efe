with source as (
    {{ nextmove.read_raw('crm_deals', {
        'deal_id': 'text',
        'account_id': 'text',
        'contact_id': 'text',
        'rep_id': 'text',
        'stage': 'text',
        'amount_cents': 'bigint',
        'created_at': 'timestamp',
        'closed_at': 'timestamp'
    }, optional=['account_id', 'rep_id', 'amount_cents', 'closed_at']) }}
),

renamed as (
    select
        deal_id,
        account_id,
        {{ nextmove.clean_id('contact_id') }} as contact_id,
        rep_id,
        stage,
        amount_cents,
        created_at,
        closed_at
    from source
)

select * from renamed
