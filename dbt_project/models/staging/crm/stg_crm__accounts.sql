with source as (
    {{ nextmove.read_raw('crm_accounts', {
        'account_id': 'text',
        'name': 'text',
        'industry': 'text',
        'employees': 'integer',
        'created_at': 'timestamp'
    }, optional=['name', 'industry', 'employees', 'created_at']) }}
),

renamed as (
    select
        account_id,
        name as account_name,
        industry,
        employees,
        created_at
    from source
)

select * from renamed
