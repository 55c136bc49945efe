with source as (
    {{ nextmove.read_raw('products', {
        'product_id': 'text',
        'name': 'text',
        'category': 'text',
        'price_cents': 'bigint',
        'is_active': 'boolean',
        'updated_at': 'timestamp'
    }, optional=['name', 'category', 'price_cents', 'is_active', 'updated_at']) }}
),

renamed as (
    select
        product_id,
        name as product_name,
        category,
        price_cents,
        is_active,
        updated_at
    from source
)

select * from renamed
